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
from tests.open_tree_ns.calls import NAMESPACE, mount_points
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.copies import Copy, made_in_child
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    MOUNT_ATTR_NOSUID,
    MS_NOSUID,
    MS_SHARED,
)
from tests.utils.uapi.syscalls import mount, mount_setattr, open_tree, umount2

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
