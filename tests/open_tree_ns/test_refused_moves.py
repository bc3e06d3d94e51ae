# SPDX-License-Identifier: GPL-2.0-only
"""What cannot be moved inside the new namespace, nor become its root: as everywhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import clone, copy, enter, enter_top
from tests.utils.expect import outcome
from tests.utils.mounts.trees import fresh_tmpfs, propagation, tmpfs
from tests.utils.uapi.caps import effective
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_SHARED,
    MS_UNBINDABLE,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import attach, move_mount, pivot_root, umount2


def stand_inside(scratch: Path) -> int:
    """Enter a copy of a tmpfs with the mounts /new and /other, and return its descriptor; each
    mount has a directory dir, and an empty one below that."""
    top = tmpfs(scratch / "top")
    for place in (top, tmpfs(top / "new"), tmpfs(top / "other")):
        (place / "dir/old").mkdir(parents=True)
    fd = copy(top, recursive=True)
    enter(fd)
    return fd


@pytest.mark.rule("N17")
@pytest.mark.usefixtures("unlocked")
def test_what_cannot_become_the_root(scratch: Path) -> None:
    """pivot_root(2) inside refuses what is no mount, is the root itself, was removed or lies
    outside the caller's root, and a place for the old root that the new one does not lead to."""
    stand_inside(scratch)
    (tmpfs(Path("/dir/old")) / "place").mkdir()
    os.mkdir("/new/gone")
    gone, below = os.open("/new/gone", os.O_PATH), os.open("/new", os.O_PATH)
    os.rmdir("/new/gone")
    top, before = os.open("/", os.O_PATH), mount_table()

    with effective(0):
        got = {"without privilege": outcome(pivot_root, "/new", "/new/dir")}
    got["no mount"] = outcome(pivot_root, "/new/dir", "/new/dir/old")
    got["the root"] = outcome(pivot_root, "/", "/new/dir")
    got["old one on itself"] = outcome(pivot_root, "/new", "/dir")
    got["old one beside"] = outcome(pivot_root, "/new", "/other/dir")
    os.fchdir(gone)
    got["removed"] = outcome(pivot_root, ".", "/new/dir")
    got["old one's place removed"] = outcome(pivot_root, "/new", ".")
    os.fchdir(below)
    os.chroot("/other")
    got["outside the root"] = outcome(pivot_root, ".", "dir")
    os.fchdir(top)
    os.chroot("dir")
    got["root is no mount"] = outcome(pivot_root, "/old", "/old/place")
    os.fchdir(top)
    os.chroot(".")

    assert mount_table() == before
    assert got == {
        "without privilege": "EPERM",
        **dict.fromkeys(["removed", "old one's place removed"], "ENOENT"),
        **dict.fromkeys(["the root", "old one on itself"], "EBUSY"),
        **dict.fromkeys(["no mount", "old one beside", "outside the root"], "EINVAL"),
        "root is no mount": "EINVAL",
    }


@pytest.mark.rule("N17", "Y7")
@pytest.mark.usefixtures("unlocked")
def test_base_gives_up_no_place(scratch: Path) -> None:
    """The base has no place of its own: neither can it be the old root of pivot_root(2), nor the
    new one, nor be moved: EINVAL."""
    fd = copy(tmpfs(scratch / "top"))
    enter_top(fd)
    umount2("/", MNT_DETACH)
    enter(fd)
    base, tree = os.open("/", os.O_PATH), fresh_tmpfs()
    for name in ("old", "place"):
        os.mkdir(name, dir_fd=tree)
    attach(tree, "/")
    os.fchdir(tree)
    got = {"old root": outcome(pivot_root, ".", "old")}
    enter(fd)
    tmpfs(Path("/place"))
    os.fchdir(base)
    got["new root"] = outcome(pivot_root, ".", "/place")
    to = (AT_FDCWD, "/place", MOVE_MOUNT_F_EMPTY_PATH)
    got["moved"] = outcome(move_mount, base, "", *to)

    assert got == dict.fromkeys(["old root", "new root", "moved"], "EINVAL")
    assert [mount.fs_type for mount in mount_table()] == ["tmpfs", "tmpfs"]


@pytest.mark.rule("N17")
@pytest.mark.usefixtures("unlocked")
def test_what_cannot_be_moved(scratch: Path) -> None:
    """move_mount(2) inside refuses what is no mount, a child of a shared mount, what contains an
    unbindable mount to a shared one, and a detached tree onto itself: EINVAL; a directory that
    was removed is ENOENT, and a closed descriptor, of whichever of the two places, EBADF."""
    stand_inside(scratch)
    shared = propagation(Path("/new"), MS_SHARED)
    tmpfs(shared / "child")
    (shared / "place").mkdir()
    propagation(tmpfs(Path("/dir")), MS_UNBINDABLE)
    detached, removed = clone("/other"), clone("/other/dir/old")
    os.rmdir("/other/dir/old")
    before = mount_table()

    def move(source: str, target: str) -> str:
        return outcome(move_mount, AT_FDCWD, source, AT_FDCWD, target, 0)

    itself = outcome(move_mount, detached, "", detached, "dir", MOVE_MOUNT_F_EMPTY_PATH)
    got = {
        "no mount": move("/other/dir", "/dir"),
        "child of a shared mount": move("/new/child", "/other"),
        "unbindable to a shared one": move("/dir", "/new/place"),
        "detached onto itself": itself,
    }
    onto = outcome(attach, removed, "/other/dir")
    by_fds = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    closed = {
        "source": outcome(move_mount, 1 << 20, "", detached, "", by_fds),
        "target": outcome(move_mount, detached, "", 1 << 20, "", by_fds),
    }

    assert got == dict.fromkeys(got, "EINVAL")
    assert onto == "ENOENT"
    assert closed == dict.fromkeys(closed, "EBADF")
    assert mount_table() == before
