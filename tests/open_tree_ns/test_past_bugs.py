# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes kernels made around the flag, each shown by what a program can see of it.

Those that fit a rule of another module have their case there, marked with the commit too.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.expect import outcome
from tests.utils.fuse import SIZE, SlowFile
from tests.utils.locks import locks
from tests.utils.mounts import listmount, mnt_id_of, mount_table, statmount
from tests.utils.nsfs import current_mnt_ns, ns_inode
from tests.utils.process import later, started
from tests.utils.syscalls import (
    mount,
    move_mount,
    umount2,
)
from tests.utils.trees import bind, fresh_tmpfs, propagation, tmpfs, write
from tests.utils.userns import become_foreign

FROM_FD = MOVE_MOUNT_F_EMPTY_PATH


def detached(name: str) -> int:
    """A detached tmpfs that holds one file."""
    tree = fresh_tmpfs()
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=tree_directory(tree)))
    return tree


def tree_directory(tree: int) -> int:
    """The descriptor of a detached tree, as a directory to make files in."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("BK1", "C7")
@fixes.KEEP_UNBINDABLE
def test_unbindable_stays_unbindable(scratch: Path) -> None:
    """An unbindable child of a foreign copy is unbindable there too: it says so, and no call copies
    it, single or recursive."""
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "child"), MS_UNBINDABLE)
    (top / "place").mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    before = mount_table()

    found = {
        "bind": outcome(mount, "/child", "/place", None, MS_BIND),
        "rbind": outcome(mount, "/child", "/place", None, MS_BIND | MS_REC),
        "clone": outcome(clone, "/child"),
        "recursive clone": outcome(clone, "/child", recursive=True),
        "namespace": outcome(copy, "/child"),
        "recursive namespace": outcome(copy, "/child", recursive=True),
    }

    assert statmount(mnt_id_of("/child")).mnt_propagation == MS_UNBINDABLE
    assert found == dict.fromkeys(found, "EINVAL")
    assert mount_table() == before


@pytest.mark.rule("BK3")
@fixes.TOPMOST_NAMESPACE_FILE
def test_propagated_mount_does_not_bury(scratch: Path) -> None:
    """A mount with a mount namespace's file on top of it is moved to where the copy, a slave, has
    a mount of its own: that one stays visible, on top of what was propagated."""
    top = propagation(tmpfs(scratch / "top", "file"), MS_SHARED)
    moved = write(scratch / "moved")
    bind(write(scratch / "plain"), moved)
    below = os.open(moved, os.O_PATH)
    here, fd = current_mnt_ns(), copy(top)
    newer = copy(top)
    mount(f"/proc/self/fd/{newer}", moved, None, MS_BIND)
    enter(fd)
    mount(None, "/", None, MS_SLAVE)
    bind(write(Path("/own")), Path("/file"))
    own = mnt_id_of("/file")
    enter(here)

    move_mount(below, "", AT_FDCWD, top / "file", FROM_FD)

    assert ns_inode(str(top / "file")) == ns_inode(newer)
    enter(fd)
    assert (mnt_id_of("/file"), Path("/file").read_text()) == (own, "own")
    umount2("/file", MNT_DETACH)
    assert Path("/file").read_text() == "plain"


@pytest.mark.needs("FUSE")
@pytest.mark.rule("BK7")
@fixes.NULLFS_READERS
@pytest.mark.usefixtures("unlocked")
def test_reader_of_the_base_blocks_nobody(scratch: Path) -> None:
    """A task that lists the base and is stuck in the page fault of its buffer keeps nobody from
    making and entering namespaces, though all of them have the one directory of nullfs."""
    leaf = tmpfs(scratch / "leaf")
    slow = SlowFile(scratch / "slow")

    def list_the_base() -> int:
        slow.close()  # only the case serves it
        page = mmap.mmap(os.open(scratch / "slow", os.O_RDWR), SIZE, flags=mmap.MAP_PRIVATE)
        fd = copy(leaf)
        enter(fd)
        umount2("/", MNT_DETACH)
        enter(fd)
        base = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        buffer = (ctypes.c_char * SIZE).from_buffer(page)
        return int(ctypes.CDLL(None, use_errno=True).getdents64(base, buffer, SIZE))

    def make_and_enter() -> list[str]:
        slow.close()
        enter(copy(leaf))
        return [mount.fs_type for mount in mount_table()]

    with started(list_the_base) as reader:
        try:
            assert slow.serve_until_read(20), "the reader never touched its buffer"
            with started(make_and_enter) as maker:
                in_time = maker.finished(10)
                stuck = not reader.finished(0)
                slow.release()
                made = maker.result()
        finally:
            slow.release()
            slow.close()  # what else the reader asks for as it ends is refused
        listed = reader.result()
    assert (in_time, stuck) == (True, True)
    assert (made, listed) == (["tmpfs"], 48)  # "." and "..", 24 bytes each


@pytest.mark.rule("BK8", "K8")
@fixes.LOCK_ABOVE_A_PROPAGATED_COPY
def test_propagated_copy_beneath_leaves_the_lock(caller: Caller, scratch: Path) -> None:
    """The source's side moves a mount beneath one that a foreign copy has locked: the copy of it
    goes beneath, locked, and what is above keeps its lock too; both go as they do at the source.
    In an owner's slave nothing is locked."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "child", "child.txt")

    def step(number: int) -> None:
        if number == 0:
            tree = detached("beneath.txt")
            move_mount(tree, "", AT_FDCWD, top / "child", FROM_FD | MOVE_MOUNT_BENEATH)
        else:
            umount2(top / "child", MNT_DETACH)

    def see() -> tuple[list[str], bool, int]:
        return os.listdir("/child"), locks().get("/child", False), len(listmount())

    with (
        later(lambda: step(0)) as beneath,
        later(lambda: step(1)) as uncover,
        later(lambda: step(1)) as clear,
    ):
        caller.act()
        enter(copy(top, recursive=True))
        if not caller.foreign:
            mount(None, "/", None, MS_SLAVE | MS_REC)
        steps = [see()]
        for act in (beneath, uncover, clear):
            act()
            steps.append(see())

    assert steps == [
        (["child.txt"], caller.foreign, 2),
        (["child.txt"], caller.foreign, 3),
        (["beneath.txt"], caller.foreign, 2),
        ([], False, 1),
    ]
