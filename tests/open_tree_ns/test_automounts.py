# SPDX-License-Identifier: GPL-2.0-only
"""Automounts that are triggered once the copy was made: where they arrive, and how locked they are.

The automount at hand is "tracing" in debugfs, which is no file system for user namespaces.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import NAMESPACE, enter, mount_points
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.copies import Copy, made_in_child
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MS_MOVE,
    MS_NOSUID,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.statmount import mnt_id_of
from tests.utils.uapi.syscalls import mount, mount_setattr, move_mount, open_tree, umount2

pytestmark = [pytest.mark.rule("C13"), pytest.mark.needs("root", "debugfs automount")]


def tree_with_debugfs(scratch: Path) -> Path:
    """Make a tree with a directory "place" and debugfs, shared and nosuid, at "debug": nothing has
    triggered its automount."""
    top = tmpfs(scratch / "top")
    for name in ("place", "debug"):
        (top / name).mkdir()
    mount("debugfs", top / "debug", "debugfs", MS_NOSUID)
    propagation(top / "debug", MS_SHARED)
    return top


def copied_by(caller: Caller, top: Path) -> Copy:
    """Have *caller* make a recursive copy of *top* that triggers nothing."""
    flags = NAMESPACE | AT_RECURSIVE | AT_NO_AUTOMOUNT
    return made_in_child(caller.act, partial(open_tree, AT_FDCWD, top, flags))


def trigger(path: Path | str) -> None:
    """Go through the automount point *path*."""
    os.stat(f"{path}/.")


def lift(path: Path | str) -> Outcome:
    """Take off the restriction of the mount at *path*; return how that ended."""
    return outcome(mount_setattr, AT_FDCWD, path, attr_clr=MOUNT_ATTR_NOSUID)


def test_triggered_in_the_copy(caller: Caller, scratch: Path) -> None:
    """An automount that is triggered inside is mounted in the copy, with the restrictions of what
    it is mounted on, locked in a foreign caller's copy; a peer at the source gets it too."""
    top = tree_with_debugfs(scratch)
    copied = copied_by(caller, top)

    def inside() -> Outcome:
        trigger("/debug/tracing")
        return lift("/debug/tracing")

    lifted = copied.inside(inside)

    assert mount_points(copied.ns_fd) == ["/", "/debug", "/debug/tracing"]
    assert (str(top / "debug/tracing") in mount_points()) == (not caller.foreign)
    assert lifted == ("EPERM" if caller.foreign else "success")


@fixes.AUTOMOUNT_LOCKS
@pytest.mark.parametrize("by", ["source", "copy"])
@pytest.mark.upstream("locked_mount.automount_locked_in_the_triggering_namespace")
def test_triggered_at_the_source(by: str, caller: Caller, scratch: Path) -> None:
    """An automount that is triggered at the source arrives in the copy. Its restrictions are locked
    in a foreign caller's copy and free at the source, whoever triggers it: also a task inside, by a
    descriptor from outside."""
    top = tree_with_debugfs(scratch)
    copied = copied_by(caller, top)
    debugfs = os.open(top / "debug", os.O_PATH)

    def from_inside() -> None:
        os.chdir(debugfs)
        trigger("tracing")

    if by == "copy":
        copied.inside(from_inside)
    else:
        trigger(top / "debug/tracing")
    arrived = mount_points(copied.ns_fd)
    lifted = {
        "copy": copied.inside(partial(lift, "/debug/tracing")),
        "source": lift(top / "debug/tracing"),
    }

    assert arrived == ["/", "/debug", "/debug/tracing"]
    assert lifted == {"copy": "EPERM" if caller.foreign else "success", "source": "success"}


@fixes.LOCKED_EXPIRY
@pytest.mark.upstream("locked_mount.umount_of_a_bind_leaves_a_locked_automount_alone")
def test_locked_automount_keeps_its_place(caller: Caller, scratch: Path) -> None:
    """A plain umount(2) inside, which takes automounts along that are not in use, takes none that
    is locked: EBUSY."""
    top = tree_with_debugfs(scratch)
    trigger(top / "debug/tracing")
    copied = copied_by(caller, top)

    def inside() -> tuple[Outcome, list[str]]:
        bind(Path("/debug"), Path("/place"), recursive=True)
        return outcome(umount2, "/place"), [path for path in mount_points() if "place" in path]

    end, left = copied.inside(inside)

    if caller.foreign:
        assert (end, left) == ("EBUSY", ["/place", "/place/tracing"])
    else:
        assert (end, left) == ("success", [])


def bind_automount(target: Path) -> Path:
    """Bind the automount that is mounted at "/debug/tracing": such a bind shrinks away, too."""
    return bind(Path("/debug/tracing"), target)


@fixes.BUSY_SUBMOUNTS
@pytest.mark.upstream("shrink_submounts.busy_mount_moved_into_reach")
def test_mount_that_slides_into_reach_while_in_use(scratch: Path) -> None:
    """A plain umount(2) inside takes the automounts along one by one. One that goes has another, in
    use, slide down to where it is looked at next: that one stays mounted, and it is EBUSY."""
    top = tree_with_debugfs(scratch)
    trigger(top / "debug/tracing")
    enter(copied_by(Caller.OWNER, top).ns_fd)
    mount(None, "/debug", None, MS_PRIVATE | MS_REC)
    first = propagation(bind_automount(Path("/first")), MS_SHARED)
    second = propagation(propagation(bind(first, Path("/second")), MS_SLAVE), MS_SHARED)
    third = bind(second, Path("/third"))
    bind_automount(first / "options")
    used = propagation(third / "options", MS_PRIVATE)
    mount("used", used, "tmpfs")
    os.chdir(used)
    mount(first, second / "instances", None, MS_MOVE)
    standing = mnt_id_of(".")

    end = outcome(umount2, second)

    assert (str(end), mnt_id_of(used), os.getcwd()) == ("EBUSY", standing, str(used))


@fixes.BUSY_SUBMOUNTS
@pytest.mark.upstream("shrink_submounts.parent_goes_with_child")
def test_parent_that_goes_with_its_child(scratch: Path) -> None:
    """So does a umount that takes the mount along which it is just looking through, since it lies
    on a slave of its own: all of them go."""
    top = tree_with_debugfs(scratch)
    trigger(top / "debug/tracing")
    enter(copied_by(Caller.OWNER, top).ns_fd)
    mount(None, "/debug", None, MS_PRIVATE | MS_REC)
    tree = tmpfs(Path("/place"))
    shared = propagation(bind_automount(tree / "shared"), MS_SHARED)
    bind_automount(shared / "options")
    slave = propagation(bind(shared, tree / "slave"), MS_SLAVE)
    mount(shared, slave / "options", None, MS_MOVE)

    umount2(tree)

    assert [path for path in mount_points() if path.startswith("/place")] == []


@fixes.LOCKED_EXPIRY
@fixes.TRANSFERRED_LOCK
@pytest.mark.needs("user namespace")
@pytest.mark.upstream("locked_mount.expiry_leaves_a_locked_mount_alone")
def test_automount_that_took_over_a_lock(scratch: Path) -> None:
    """A bind of an automount is put beneath a locked cover, whose lock it takes over, and the cover
    is unmounted. No umount(2) of a mount above takes it along: it covers the secret still."""
    top = tree_with_debugfs(scratch)
    trigger(top / "debug/tracing")
    tree = tmpfs(top / "tree", "covered/secret")
    tmpfs(tree / "covered", "cover")
    (top / "beside").mkdir()
    copied = copied_by(Caller.FOREIGN, top)

    def inside() -> list[str]:
        bind(Path("/tree"), Path("/place"), recursive=True)
        bind_automount(Path("/beside"))
        flags = MOVE_MOUNT_BENEATH
        move_mount(AT_FDCWD, "/beside", AT_FDCWD, "/place/covered", flags)
        umount2("/place/covered")
        ends = [str(outcome(umount2, path)) for path in ("/place/covered", "/place")]
        return [*ends, str(outcome(os.stat, "/place/covered/secret"))]

    assert copied.inside(inside) == ["EINVAL", "EBUSY", "ENOENT"]
