# SPDX-License-Identifier: GPL-2.0-only
"""Where rules meet: three levels of slaves, copies that fail half-way, entering where one is, and a
root that is in another namespace than its task."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter, mount_points, place
from tests.open_tree_ns.trees import nested_tree, small_tree, tree_with_proc
from tests.utils.expect import fails, outcome
from tests.utils.mounts.copies import Copy, made_in_child
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign, in_own_mount_ns
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MS_BIND,
    MS_NOSUID,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import mount, mount_setattr, umount2


def copy_from_inside(outer: Copy | None, top: Path) -> Copy:
    """Have a foreign caller inside *outer* (None is here) copy *top*, and make it shared there."""

    def become() -> None:
        if outer is not None:
            outer.enter()
        become_foreign()

    inner = made_in_child(become, partial(copy, top, recursive=True))
    inner.inside(partial(mount, None, "/", None, MS_SHARED))
    return inner


@pytest.mark.rule("G2", "G3")
@pytest.mark.needs("nested user namespace")
def test_three_levels_of_slaves(scratch: Path) -> None:
    """A foreign copy of a foreign copy of a foreign copy is a slave of a slave of a slave: what is
    mounted at the source arrives in each, with its restrictions locked, and goes from each; what is
    mounted in the middle arrives below and not above."""
    top = propagation(tree_with_proc(scratch), MS_SHARED)
    for name in ("source", "middle"):
        (top / name).mkdir()
    first = copy_from_inside(None, top)
    second = copy_from_inside(first, Path("/"))
    third = copy_from_inside(second, Path("/"))
    levels = (first, second, third)
    roots = [statmount(mnt_id_of(top)), *(mount_table(ns_fd=level.ns_fd)[0] for level in levels)]

    mount("tmpfs", top / "source", "tmpfs", MS_NOSUID)
    second.inside(lambda: tmpfs(Path("/middle")))
    points = [{*mount_points(level.ns_fd)} - {"/", "/proc"} for level in levels]
    lifted = [
        level.inside(
            lambda: str(outcome(mount_setattr, AT_FDCWD, "/source", attr_clr=MOUNT_ATTR_NOSUID))
        )
        for level in levels
    ]
    umount2(top / "source")
    left = [{*mount_points(level.ns_fd)} - {"/", "/proc"} for level in levels]

    assert [root.mnt_master for root in roots[1:]] == [root.mnt_peer_group for root in roots[:-1]]
    assert points == [{"/source"}, {"/source", "/middle"}, {"/source", "/middle"}]
    assert lifted == ["EPERM"] * 3
    assert left == [set(), {"/middle"}, {"/middle"}]
    assert str(top / "middle") not in mount_points()


@pytest.mark.rule("T4")
@fixes.KEEP_COVERED
@fixes.KEEP_UNBINDABLE
@pytest.mark.needs("user namespace")
def test_half_way_copies_leave_no_trace(scratch: Path) -> None:
    """A copy that fails at its last mount, which is locked and unbindable, has taken those it had
    made out of their peer groups: again and again."""
    top = tmpfs(scratch / "top")
    for name in ("a", "a/below", "b"):
        propagation(tmpfs(top / name), MS_SHARED)
    propagation(tmpfs(top / "z"), MS_UNBINDABLE)
    _stay = current_mnt_ns()  # else the masters end with it
    become_foreign()
    enter(copy(top, recursive=True))
    for name in ("/a", "/a/below", "/b"):
        mount(None, name, None, MS_SHARED)
    before = mount_table()

    for _ in range(50):
        fails(errno.EPERM, partial(copy, "/", recursive=True))

    assert mount_table() == before
    groups = [(m.mnt_peer_group, m.mnt_master) for m in before[1:4]]
    for name in ("/a", "/a/below", "/b"):
        mount(None, name, None, MS_SLAVE)
    now = [(m.mnt_propagation, m.mnt_master) for m in mount_table()[1:4]]
    assert now == [(MS_SLAVE, master) for _, master in groups], "the group has members left"


@pytest.mark.rule("N1", "N16")
def test_entering_where_one_is(caller: Caller, scratch: Path) -> None:
    """Entering the namespace one is in moves root and working directory to its top again, from
    another mount, from a changed root, and from one that is in another namespace."""
    top = nested_tree(scratch)
    outside = os.open(scratch, os.O_PATH)
    caller.act()
    fd = copy(top, recursive=True)
    enter(fd)
    home = place()
    found = {}

    os.chdir("/a/inner")
    enter(fd)
    found["another mount"] = place()
    os.chroot("/b")
    enter(fd)
    found["changed root"] = place()
    os.fchdir(outside)
    os.chroot(".")
    enter(fd)
    found["root outside"] = place()

    assert found == dict.fromkeys(found, home)


@pytest.mark.rule("P13", "N7")
def test_root_in_an_older_namespace(caller: Caller, scratch: Path) -> None:
    """A task inside whose root is a directory of the older namespace finds its paths there, and can
    neither copy what they lead to nor mount on it: EINVAL; what a descriptor leads to inside, it
    can copy."""
    top = small_tree(scratch)
    outside = os.open(top, os.O_PATH)
    _stay = current_mnt_ns()
    # From outside, where what lies below the root shows as well.
    before = in_child(in_own_mount_ns(partial(mount_table, ns_fd=_stay)))
    caller.act()
    fd = copy(top, recursive=True)
    enter(fd)
    inside = os.open("/dir", os.O_PATH)
    os.fchdir(outside)
    os.chroot(".")

    found = {
        "copy": outcome(copy, "/dir"),
        "recursive copy": outcome(copy, "/", recursive=True),
        "mount": outcome(mount, "tmpfs", "/dir", "tmpfs"),
        "umount": outcome(umount2, "/child", MNT_DETACH),
        "setattr": outcome(mount_setattr, AT_FDCWD, "/child", attr_set=MOUNT_ATTR_NOSUID),
        "copy by descriptor": outcome(copy, "", dirfd=inside),
    }

    assert found == {**dict.fromkeys(found, "EINVAL"), "copy by descriptor": "success"}
    assert os.listdir("/child") == ["child.txt"]
    assert mount_table(ns_fd=_stay) == before or caller.foreign


@pytest.mark.needs("nested user namespace")
@pytest.mark.rule("BK1", "C7")
@fixes.KEEP_UNBINDABLE
@pytest.mark.upstream("mntns_unbindable.refuses_bind_after_two_clones")
def test_unbindable_stays_so_in_a_copy_of_a_copy(scratch: Path) -> None:
    """It is unbindable in the foreign copy of a foreign copy as well."""
    top = tree_with_proc(scratch)
    propagation(tmpfs(top / "child"), MS_UNBINDABLE)
    (top / "place").mkdir()

    for source in (top, Path("/")):
        become_foreign()
        enter(copy(source, recursive=True))

    assert statmount(mnt_id_of("/child")).mnt_propagation == MS_UNBINDABLE
    assert outcome(mount, "/child", "/place", None, MS_BIND) == "EINVAL"
    assert outcome(copy, "/child") == "EINVAL"
