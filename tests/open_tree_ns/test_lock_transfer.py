# SPDX-License-Identifier: GPL-2.0-only
"""Taking the place of a locked mount: who comes to stand there inherits the lock."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter, mount_points
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree
from tests.utils.mounts.locks import is_locked, locks
from tests.utils.mounts.trees import bind, fresh_tmpfs, propagation, tmpfs
from tests.utils.tasks.process import deferred_call
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import (
    mount,
    move_mount,
    pivot_root,
    umount2,
)


def stand_in_a_copy(scratch: Path, caller: Caller) -> int:
    """Enter a copy of a small tree, as the one who made it, and return its descriptor."""
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "child", "child.txt")
    (top / "new").mkdir()
    caller.act()
    fd = copy(top, recursive=True)
    enter(fd)
    return fd


@pytest.mark.rule("K8", "N5")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root(caller: Caller, scratch: Path) -> None:
    """pivot_root(2) works at once. Afterwards the old root can be unmounted, with all on it; the
    new one is locked exactly when the old one was."""
    stand_in_a_copy(scratch, caller)
    new = tmpfs(Path("/new"), "new.txt")
    (new / "old").mkdir()
    top = mnt_id_of(new)

    pivot_root(new, new / "old")

    assert mnt_id_of("/") == mnt_id_of(".") == top
    assert Path("/new.txt").read_text() == "new.txt"
    assert locks() == {"/old": False, "/old/child": caller.foreign}
    umount2("/old", MNT_DETACH)
    assert mount_points() == ["/"]
    assert outcome(umount2, "/", MNT_DETACH) == ("EINVAL" if caller.foreign else "success")


@pytest.mark.rule("K8", "N5")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root_onto_itself(caller: Caller, scratch: Path) -> None:
    """pivot_root(".", ".") puts the old root on top of the new one, from where it can be detached;
    what remains is the new root, locked exactly when the old one was."""
    fd = stand_in_a_copy(scratch, caller)
    os.chdir(tmpfs(Path("/new"), "new.txt"))
    top = mnt_id_of(".")

    pivot_root(".", ".")
    umount2(".", MNT_DETACH)

    assert [mount.mnt_id for mount in mount_table()] == [top]
    assert namespace_tree(fd).mount_points() == ["/"]
    assert os.listdir("/") == ["new.txt"]
    assert outcome(umount2, "/", MNT_DETACH) == ("EINVAL" if caller.foreign else "success")


@pytest.mark.rule("K8", "N5")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root_to_a_copied_mount(caller: Caller, scratch: Path) -> None:
    """A locked mount cannot become the root: EINVAL, and nothing moves. A free one can."""
    stand_in_a_copy(scratch, caller)
    before = mount_table()
    os.chdir("/child")
    child = mnt_id_of(".")

    end = outcome(pivot_root, ".", ".")

    if caller.foreign:
        assert end == "EINVAL"
        assert mount_table() == before
    else:
        assert end == "success"
        assert mnt_id_of("/") == child


@pytest.mark.rule("G6", "N5")
def test_pivot_root_of_a_shared_root(scratch: Path) -> None:
    """An owner's copy of a shared mount is shared: pivot_root(2) is EINVAL while the root is, and
    works once it is private."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    (top / "new").mkdir()
    enter(copy(top, recursive=True))
    tmpfs(Path("/new"), "new.txt")
    os.chdir("/new")

    fails(errno.EINVAL, pivot_root, ".", ".")
    mount(None, "/", None, MS_PRIVATE)
    pivot_root(".", ".")

    umount2(".", MNT_DETACH)
    assert os.listdir("/") == ["new.txt"]


@pytest.mark.rule("K8")
@fixes.TRANSFERRED_LOCK
@fixes.BENEATH_THE_ROOT
@pytest.mark.upstream(
    "move_mount.beneath_non_rootfs_locked_transfer",
    "move_mount.beneath_non_rootfs_locked_containment",
)
def test_beneath_a_child(caller: Caller, scratch: Path) -> None:
    """What is moved beneath a locked mount takes its lock: the old mount can be detached now, the
    new one not; where nothing was locked nothing is."""
    stand_in_a_copy(scratch, caller)
    beneath = fresh_tmpfs()

    attach_beneath(beneath, "/child")

    assert os.listdir("/child") == ["child.txt"]
    umount2("/child", MNT_DETACH)
    assert mnt_id_of("/child") == mnt_id_of(beneath)
    assert locks() == {"/child": caller.foreign}
    assert outcome(umount2, "/child", MNT_DETACH) == ("EINVAL" if caller.foreign else "success")


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K8")
def test_beneath_a_mount_of_ones_own(scratch: Path) -> None:
    """Beneath a free mount nothing becomes locked, though the tree around it be."""
    stand_in_a_copy(scratch, Caller.FOREIGN)
    tmpfs(Path("/new"))
    tree = fresh_tmpfs()

    attach_beneath(tree, "/new")

    assert locks() == {"/child": True, "/new": False}
    umount2("/new", MNT_DETACH)
    assert mnt_id_of("/new") == mnt_id_of(tree)
    umount2("/new", MNT_DETACH)
    assert locks() == {"/child": True}


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K8", "K9")
@fixes.KEEP_LOCK_OF_FILES
@pytest.mark.upstream("locked_mount.mount_namespace_file_cant_take_the_lock")
def test_namespace_file_beneath_a_lock(scratch: Path) -> None:
    """A mount namespace's file cannot be put beneath a locked mount, whose lock it would take:
    copies leave such files out, and would uncover what it lies on. EINVAL, and nothing moves;
    beneath a mount of one's own it is allowed."""
    top = tmpfs(scratch / "top", "file", "free")
    bind(top / "file", top / "file")
    bind(Path("/proc"), top / "proc", recursive=True)
    become_foreign()
    enter(copy(top, recursive=True))
    bind(Path("/free"), Path("/free"))
    handle = copy("/proc", recursive=True)
    files = [clone(f"/proc/self/fd/{handle}") for _ in range(2)]
    before = mount_table()
    assert (is_locked("/file"), is_locked("/free")) == (True, False)

    locked = outcome(attach_beneath, files[0], "/file")
    after = mount_table()
    free = outcome(attach_beneath, files[1], "/free")

    assert {"a locked mount": locked, "a free mount": free} == {
        "a locked mount": "EINVAL",
        "a free mount": "success",
    }
    assert after == before


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K9", "B3")
def test_namespace_file_above_a_lock(scratch: Path) -> None:
    """What counts is the topmost mount, which it goes beneath, and not the buried one by which the
    place is named: beneath a mount of one's own that lies on a locked one it is allowed."""
    top = tmpfs(scratch / "top", "file")
    bind(top / "file", top / "file")
    bind(Path("/proc"), top / "proc", recursive=True)
    become_foreign()
    enter(copy(top, recursive=True))
    buried = os.open("/file", os.O_PATH)
    bind(Path("/file"), Path("/file"))
    handle = copy("/proc", recursive=True)
    flags = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH

    move_mount(clone(f"/proc/self/fd/{handle}"), "", buried, "", flags)

    umount2("/file", MNT_DETACH)
    assert ns_inode("/file") == ns_inode(handle)
    umount2("/file", MNT_DETACH)
    assert (mnt_id_of("/file"), is_locked("/file")) == (mnt_id_of(buried), True)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K8")
@fixes.TRANSFERRED_LOCK
@fixes.BENEATH_THE_ROOT
def test_lock_goes_down_a_stack(scratch: Path) -> None:
    """Several mounts moved beneath a locked one, each beneath the topmost: only the lowest, which
    went there first, is locked in the end; all above it can be taken away."""
    stand_in_a_copy(scratch, Caller.FOREIGN)
    trees = [fresh_tmpfs() for _ in range(3)]
    for tree in trees:
        attach_beneath(tree, "/child")

    for tree in reversed(trees):
        umount2("/child", MNT_DETACH)
        assert mnt_id_of("/child") == mnt_id_of(tree)

    assert outcome(umount2, "/child", MNT_DETACH) == "EINVAL"


def detached_tmpfs(name: str) -> int:
    """Make a detached tmpfs with an empty file *name* and return its descriptor."""
    tree = fresh_tmpfs()
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree))
    return tree


class Seen(NamedTuple):
    """What a namespace shows of the place "/child"."""

    files: list[str]
    locked: bool
    #: Mounts in the whole namespace.
    mounts: int


@pytest.mark.rule("BK8", "K8")
@fixes.LOCK_ABOVE_A_PROPAGATED_COPY
@pytest.mark.upstream("locked_mount.propagated_copy_keeps_the_cover_locked")
def test_propagated_copy_beneath_leaves_the_lock(caller: Caller, scratch: Path) -> None:
    """The source's side moves a mount beneath one that a foreign copy has locked: the copy of it
    goes beneath, locked, and what is above keeps its lock too; both go as they do at the source.
    In an owner's slave nothing is locked."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "child", "child.txt")

    def move_beneath() -> None:
        attach_beneath(detached_tmpfs("beneath.txt"), top / "child")

    def unmount() -> None:
        umount2(top / "child", MNT_DETACH)

    def see() -> Seen:
        return Seen(os.listdir("/child"), locks().get("/child", False), len(listmount()))

    steps = {"moved beneath": move_beneath, "unmounted": unmount, "unmounted again": unmount}
    with ExitStack() as stack:
        # Prepared here, since they are taken at the source, which the case is about to leave.
        prepared = {name: stack.enter_context(deferred_call(step)) for name, step in steps.items()}
        caller.act()
        enter(copy(top, recursive=True))
        if not caller.foreign:
            mount(None, "/", None, MS_SLAVE | MS_REC)
        seen = {"before": see()}
        for name, step in prepared.items():
            step()
            seen[name] = see()

    assert seen == {
        "before": Seen(["child.txt"], locked=caller.foreign, mounts=2),
        "moved beneath": Seen(["child.txt"], locked=caller.foreign, mounts=3),
        "unmounted": Seen(["beneath.txt"], locked=caller.foreign, mounts=2),
        "unmounted again": Seen([], locked=False, mounts=1),
    }
