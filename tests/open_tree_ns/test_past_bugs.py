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

from tests.open_tree_ns.conftest import Caller
from tests.utils.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.expect import outcome
from tests.utils.fuse import SIZE, SlowFile
from tests.utils.locks import locks
from tests.utils.mounts import listmount, mnt_id_of, mount_table, statmount
from tests.utils.nsfs import current_mnt_ns, ns_id, ns_inode
from tests.utils.process import in_child, later, started
from tests.utils.syscalls import (
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    setns,
    umount2,
)
from tests.utils.trees import bind, fresh_tmpfs, propagation, tmpfs, write
from tests.utils.userns import become_foreign

SINGLE = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
FLAGS = SINGLE | AT_RECURSIVE
CLONE = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC
FROM_FD = MOVE_MOUNT_F_EMPTY_PATH
FOREIGN = pytest.mark.needs("user namespace")


def detached(name: str) -> int:
    """A detached tmpfs that holds one file."""
    tree = fresh_tmpfs()
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=tree_directory(tree)))
    return tree


def tree_directory(tree: int) -> int:
    """The descriptor of a detached tree, as a directory to make files in."""
    return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=tree)


@FOREIGN
@pytest.mark.rule("BK1", "C7")
@pytest.mark.fixed_by("-", "7.2.11", "mount: keep a copied mount unbindable")
def test_unbindable_stays_unbindable(scratch: Path) -> None:
    """An unbindable child of a foreign copy is unbindable there too: it says so, and no call copies
    it, single or recursive."""
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "child"), MS_UNBINDABLE)
    (top / "place").mkdir()
    become_foreign()
    setns(open_tree(AT_FDCWD, top, FLAGS), CLONE_NEWNS)
    before = mount_table()

    found = {
        "bind": outcome(lambda: mount("/child", "/place", None, MS_BIND)),
        "rbind": outcome(lambda: mount("/child", "/place", None, MS_BIND | MS_REC)),
        "clone": outcome(lambda: open_tree(AT_FDCWD, "/child", CLONE)),
        "recursive clone": outcome(lambda: open_tree(AT_FDCWD, "/child", CLONE | AT_RECURSIVE)),
        "namespace": outcome(lambda: open_tree(AT_FDCWD, "/child", SINGLE)),
        "recursive namespace": outcome(lambda: open_tree(AT_FDCWD, "/child", FLAGS)),
    }

    assert statmount(mnt_id_of("/child")).mnt_propagation == MS_UNBINDABLE
    assert found == dict.fromkeys(found, "EINVAL")
    assert mount_table() == before


@pytest.fixture
def outside(scratch: Path) -> Path:
    """A tree with a place for files, and /proc, so that descriptors can be mounted inside."""
    top = tmpfs(scratch / "top")
    bind(Path("/proc"), top / "proc", recursive=True)
    write(top / "file")
    return top


@pytest.mark.rule("BK2", "T1")
@pytest.mark.fixed_by(
    "c640a01a78e4", "7.2.11", "check a recursive bind mount for mount namespace loops"
)
def test_recursive_bind_cannot_pin_its_own_namespace(outside: Path, scratch: Path) -> None:
    """Outside, the file of the new namespace lies on a bind of some other file. Inside, a recursive
    bind of that would hold the namespace by a mount in itself: EINVAL; a single one is fine. And
    the namespace ends with its last task."""
    target = write(scratch / "target")
    mount("/proc/self/ns/net", target, None, MS_BIND)
    below = os.open(target, os.O_PATH)
    fd = open_tree(AT_FDCWD, outside, FLAGS)
    mnt_ns_id = ns_id(fd)
    mount(f"/proc/self/fd/{fd}", target, None, MS_BIND)

    def inside() -> dict[str, str]:
        setns(fd, CLONE_NEWNS)
        source = f"/proc/self/fd/{below}"
        return {
            "rbind": outcome(lambda: mount(source, "/file", None, MS_BIND | MS_REC)),
            "bind": outcome(lambda: mount(source, "/file", None, MS_BIND)),
        }

    assert in_child(inside) == {"rbind": "EINVAL", "bind": "allowed"}
    umount2(target, MNT_DETACH)
    os.close(fd)
    assert outcome(lambda: listmount(ns_id=mnt_ns_id)) == "ENOENT"


@pytest.mark.rule("BK3")
@pytest.mark.fixed_by(
    "8714b44adac7", "7.2.11", "look at the topmost mount for a mount namespace file"
)
def test_propagated_mount_does_not_bury(scratch: Path) -> None:
    """A mount with a mount namespace's file on top of it is moved to where the copy, a slave, has
    a mount of its own: that one stays visible, on top of what was propagated."""
    top = propagation(tmpfs(scratch / "top", "file"), MS_SHARED)
    moved = write(scratch / "moved")
    bind(write(scratch / "plain"), moved)
    below = os.open(moved, os.O_PATH)
    here, fd = current_mnt_ns(), open_tree(AT_FDCWD, top, SINGLE)
    newer = open_tree(AT_FDCWD, top, SINGLE)
    mount(f"/proc/self/fd/{newer}", moved, None, MS_BIND)
    setns(fd, CLONE_NEWNS)
    mount(None, "/", None, MS_SLAVE)
    bind(write(Path("/own")), Path("/file"))
    own = mnt_id_of("/file")
    setns(here, CLONE_NEWNS)

    move_mount(below, "", AT_FDCWD, top / "file", FROM_FD)

    assert ns_inode(str(top / "file")) == ns_inode(newer)
    setns(fd, CLONE_NEWNS)
    assert (mnt_id_of("/file"), Path("/file").read_text()) == (own, "own")
    umount2("/file", MNT_DETACH)
    assert Path("/file").read_text() == "plain"


@pytest.mark.rule("BK4", "P12")
@pytest.mark.fixed_by("8bacbf6be959", "7.2.11", "don't copy an unmounted mount tree")
def test_unmounted_trees_are_not_walked(outside: Path) -> None:
    """What was lazily unmounted inside cannot be copied: EINVAL. Only the file of a namespace can,
    alone and as a bind, since it could be had in other ways."""
    setns(open_tree(AT_FDCWD, outside, FLAGS), CLONE_NEWNS)
    tmpfs(Path("/dir"))
    tmpfs(Path("/dir/child"))
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = {name: os.open(name, os.O_PATH) for name in ("/dir", "/dir/child", "/file")}
    umount2("/dir", MNT_DETACH)
    umount2("/file", MNT_DETACH)

    def copies(name: str) -> dict[str, str]:
        fd, source = held[name], f"/proc/self/fd/{held[name]}"
        empty = AT_EMPTY_PATH
        return {
            "namespace": outcome(lambda: open_tree(fd, "", SINGLE | empty)),
            "recursive namespace": outcome(lambda: open_tree(fd, "", FLAGS | empty)),
            "recursive clone": outcome(lambda: open_tree(fd, "", CLONE | AT_RECURSIVE | empty)),
            "clone": outcome(lambda: open_tree(fd, "", CLONE | empty)),
            "rbind": outcome(lambda: mount(source, "/file", None, MS_BIND | MS_REC)),
        }

    dead = dict.fromkeys(
        ["namespace", "recursive namespace", "recursive clone", "clone", "rbind"], "EINVAL"
    )
    file = {"namespace": "ENOTDIR", "recursive namespace": "ENOTDIR", "clone": "allowed"}
    assert {name: copies(name) for name in held} == {
        "/dir": {**dead, "rbind": "EINVAL"},
        "/dir/child": dead,
        "/file": {**dead, **file},
    }


@pytest.mark.rule("BK5")
@pytest.mark.fixed_by("e2c6d3262166", "7.2.11", "don't inherit MNT_UMOUNT")
def test_copy_of_an_unmounted_file_is_an_ordinary_mount(outside: Path) -> None:
    """A bind of a namespace's file that was unmounted can be bound again, and that bind is a mount
    like others: it ends when its place is removed from outside."""
    fd, here = open_tree(AT_FDCWD, outside, FLAGS), current_mnt_ns()
    setns(fd, CLONE_NEWNS)
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = os.open("/file", os.O_PATH)
    umount2("/file", MNT_DETACH)
    before = listmount()
    mount(f"/proc/self/fd/{held}", "/file", None, MS_BIND)
    again = os.open("/file", os.O_PATH)
    assert len(listmount()) == len(before) + 1
    setns(here, CLONE_NEWNS)

    (outside / "file").unlink()

    setns(fd, CLONE_NEWNS)
    assert listmount() == before
    change = outcome(lambda: mount_setattr(again, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID))
    assert change == "EINVAL"


def left_behind(scratch: Path) -> int:
    """A descriptor of a mount in the new namespace, where the caller is afterwards, that was
    unmounted from outside while another lay on it, which slid down and is gone too."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "a", "propagated.txt")
    fd, here = open_tree(AT_FDCWD, top, FLAGS), current_mnt_ns()
    setns(fd, CLONE_NEWNS)
    mount(None, "/", None, MS_SLAVE)
    mount(None, "/a", None, MS_SLAVE)
    held = os.open("/a", os.O_PATH)
    over = tmpfs(Path("/a"), "own.txt")
    slid = mnt_id_of(over)
    setns(here, CLONE_NEWNS)

    umount2(top / "a", MNT_DETACH)

    setns(fd, CLONE_NEWNS)
    table = mount_table()
    assert [(mount.mnt_id, mount.mnt_point) for mount in table[1:]] == [(slid, "/a")]
    assert table[1].mnt_parent_id == table[0].mnt_id
    umount2("/a", MNT_DETACH)
    assert mount_table() == table[:1]
    return held


@pytest.mark.rule("BK6", "P12")
def test_mount_that_others_slid_off_is_no_source(scratch: Path) -> None:
    """A mount inside is unmounted from outside while another lies on it, which slides down in its
    place and is unmounted later. The dead mount, held by a descriptor, cannot be copied."""
    held = left_behind(scratch)
    assert {
        "single": outcome(lambda: open_tree(held, "", SINGLE | AT_EMPTY_PATH)),
        "recursive": outcome(lambda: open_tree(held, "", FLAGS | AT_EMPTY_PATH)),
        "clone": outcome(lambda: open_tree(held, "", CLONE | AT_EMPTY_PATH)),
    } == dict.fromkeys(["single", "recursive", "clone"], "EINVAL")
    assert len(mount_table()) == 1


@pytest.mark.needs("expendable kernel")  # without the fix it follows a pointer to freed memory
@pytest.mark.rule("BK6")
@pytest.mark.fixed_by("476ef286a7a5", "7.2.11", "->overmount reset")
def test_what_slid_off_a_dead_mount_is_forgotten(scratch: Path) -> None:
    """Nothing can be moved beneath what once lay on the dead mount: ENOENT."""
    held = left_behind(scratch)
    beneath = FROM_FD | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_BENEATH
    assert outcome(lambda: move_mount(fresh_tmpfs(), "", held, "", beneath)) == "ENOENT"
    assert len(mount_table()) == 1


@pytest.mark.needs("FUSE")
@pytest.mark.rule("BK7")
@pytest.mark.fixed_by(
    "e08f57a7dcb8", "7.2.12", "readdir: take no inode lock on an immutable directory"
)
@pytest.mark.usefixtures("unlocked")
def test_reader_of_the_base_blocks_nobody(scratch: Path) -> None:
    """A task that lists the base and is stuck in the page fault of its buffer keeps nobody from
    making and entering namespaces, though all of them have the one directory of nullfs."""
    leaf = tmpfs(scratch / "leaf")
    slow = SlowFile(scratch / "slow")

    def list_the_base() -> int:
        slow.close()  # only the case serves it
        page = mmap.mmap(os.open(scratch / "slow", os.O_RDWR), SIZE, flags=mmap.MAP_PRIVATE)
        fd = open_tree(AT_FDCWD, leaf, SINGLE)
        setns(fd, CLONE_NEWNS)
        umount2("/", MNT_DETACH)
        setns(fd, CLONE_NEWNS)
        base = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        buffer = (ctypes.c_char * SIZE).from_buffer(page)
        return int(ctypes.CDLL(None, use_errno=True).getdents64(base, buffer, SIZE))

    def make_and_enter() -> list[str]:
        slow.close()
        setns(open_tree(AT_FDCWD, leaf, SINGLE), CLONE_NEWNS)
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
@pytest.mark.fixed_by("d74d66aa708c", "7.2.11", "keep lock when a propagated copy goes beneath")
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
        setns(open_tree(AT_FDCWD, top, FLAGS), CLONE_NEWNS)
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
