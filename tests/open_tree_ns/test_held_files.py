# SPDX-License-Identifier: GPL-2.0-only
"""A file system in the copy that itself holds a file on another mount of the copy: neither may keep
the other once the namespace has ended."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy_by
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.uapi.constants import MNT_DETACH, MS_PRIVATE, MS_REC, MS_SHARED
from tests.utils.uapi.fuse import HoldingDirectory
from tests.utils.uapi.inotify import inotify_watch, is_gone
from tests.utils.uapi.syscalls import mount, umount2


@pytest.mark.rule("T6")
@pytest.mark.needs("root", "FUSE passthrough", "inotify")
@fixes.STAND_INS
@pytest.mark.parametrize("way", ["namespace ends", "lazily unmounted", "place removed"])
@pytest.mark.upstream("loop_cycle.detached_loop_mount_released")
@pytest.mark.upstream("loop_cycle.fuse_backing_file_on_dead_mount_released")
def test_held_file_keeps_no_mounts(way: str, caller: Caller, scratch: Path) -> None:
    """A FUSE file system lies on a mount of the copy, locked or not, and holds a file of that mount
    open. Both end with the namespace; or before it, when that mount is lazily unmounted or its
    place is removed from outside."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tree = propagation(tmpfs(top / "tree", "file"), MS_SHARED)
    gone = inotify_watch(tree)
    holder = HoldingDirectory(tree / "child")
    copied = copy_by(caller, top)
    file = copied.opened_inside(partial(os.open, "/tree/file", os.O_RDWR))
    holder.hold(file)
    os.close(file)
    holder.close()
    if way == "lazily unmounted":
        umount2(tree, MNT_DETACH)
    else:
        copied.inside(lambda: mount(None, "/", None, MS_PRIVATE | MS_REC))
        umount2(tree, MNT_DETACH)
        assert not is_gone(gone, 0)
        if way == "place removed":
            tree.rmdir()
        else:
            os.close(copied.ns_fd)

    assert is_gone(gone), "the file system with the held file lives on"


@pytest.mark.rule("T6")
@pytest.mark.needs("root", "FUSE passthrough", "inotify")
@fixes.STAND_INS
@pytest.mark.upstream("loop_cycle.crossed_images_released")
def test_files_held_crosswise(caller: Caller, scratch: Path) -> None:
    """Of two mounts of the copy each has a FUSE file system on it that holds a file of the other.
    All of them end with the namespace."""
    top = tmpfs(scratch / "top")
    trees = [tmpfs(top / name, "file") for name in ("a", "b")]
    ends = [inotify_watch(tree) for tree in trees]
    holders = [HoldingDirectory(tree / "child") for tree in trees]
    copied = copy_by(caller, top)
    for holder, name in zip(holders, ("/b/file", "/a/file"), strict=True):
        file = copied.opened_inside(partial(os.open, name, os.O_RDWR))
        holder.hold(file)
        os.close(file)
        holder.close()
    umount2(top, MNT_DETACH)

    alive = [is_gone(end, 0) for end in ends]
    os.close(copied.ns_fd)

    assert alive == [False, False]
    assert [is_gone(end) for end in ends] == [True, True]
