# SPDX-License-Identifier: GPL-2.0-only
"""Swapping the root from inside with MOVE_MOUNT_BENEATH, as the flag was designed to be used:
enter a namespace with a bare root, put the real one together on the side, slide it underneath,
step onto it, and take the bare one away."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.locks import locks
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs, write
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
)
from tests.utils.uapi.fanotify import FAN_MNT_ATTACH, FAN_MNT_DETACH, mount_events, mount_watch
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import attach, move_mount, pivot_root, umount2

pytestmark = [
    pytest.mark.needs("MOVE_MOUNT_BENEATH on the root"),
    fixes.TRANSFERRED_LOCK,
    fixes.BENEATH_THE_ROOT,
]


def enter_bare_root(scratch: Path, caller: Caller) -> int:
    """Enter a copy of a bare tmpfs as *caller*, and return its descriptor."""
    top = tmpfs(scratch / "bare", "bare.txt")
    (top / "build").mkdir()
    caller.act()
    fd = copy(top)
    enter(fd)
    return fd


def assemble(*files: str) -> int:
    """Put a detached tree together inside: a tmpfs with *files*, with another tmpfs on it, with
    one more on that."""
    top = tmpfs(Path("/build"), *files)
    tmpfs(top / "child", "child.txt")
    tmpfs(top / "child" / "deep", "deep.txt")
    tree = clone(top, recursive=True)
    umount2(top, MNT_DETACH)
    return tree


def swap_root(tree: int) -> None:
    """Put *tree* beneath the root, step onto it, and take the old root away."""
    attach_beneath(tree, "/")
    os.fchdir(tree)
    os.chroot(".")
    umount2(".", MNT_DETACH)


@pytest.mark.rule("N6")
@pytest.mark.upstream("move_mount.beneath_rootfs_old_root_stacked")
def test_beneath_the_root(caller: Caller, scratch: Path) -> None:
    """The tree goes between base and root: the caller and whoever enters still see the old root,
    which is a child of the new one now."""
    fd = enter_bare_root(scratch, caller)
    base, old = base_of(fd), mnt_id_of("/")
    tree = assemble("new.txt")
    new = mnt_id_of(tree)

    attach_beneath(tree, "/")

    assert (mnt_id_of("/"), sorted(os.listdir("/"))) == (old, ["bare.txt", "build"])
    assert statmount(old).mnt_parent_id == new
    assert statmount(new).mnt_parent_id == base.mnt_id
    enter(fd)
    assert mnt_id_of("/") == old


@pytest.mark.rule("N6", "K8")
@pytest.mark.usefixtures("unlocked")
@pytest.mark.upstream(
    "move_mount.beneath_rootfs_success",
    "move_mount.beneath_rootfs_locked_transfer",
    "move_mount.beneath_rootfs_locked_containment",
)
def test_swap(caller: Caller, scratch: Path) -> None:
    """After the swap only the new root is left, under the same base, whole. It is locked exactly
    when the old one was: an owner may detach it, a foreign caller may not."""
    fd = enter_bare_root(scratch, caller)
    base = base_of(fd)
    tmpfs(Path("/build"), "new.txt")
    tmpfs(Path("/build/child"), "child.txt")
    expected = predict_copy("/build", recursive=True)
    tree = clone("/build", recursive=True)
    new, directory = mnt_id_of(tree), ns_inode(tree)

    swap_root(tree)

    assert mount_table()[0].mnt_id == mnt_id_of("/") == mnt_id_of(".") == mnt_id_of("..") == new
    assert ns_inode("/") == ns_inode("/..") == directory
    assert namespace_tree(fd).lines() == expected.lines()
    assert base_of(fd) == base
    assert locks() == {"/child": False}
    enter(fd)
    assert mnt_id_of("/") == new

    assert outcome(umount2, "/", MNT_DETACH) == ("EINVAL" if caller.foreign else "success")

    enter(fd)
    assert mnt_id_of("/") == (new if caller.foreign else base.mnt_id)


@pytest.mark.rule("N6", "K8")
@pytest.mark.usefixtures("unlocked")
def test_swap_twice(caller: Caller, scratch: Path) -> None:
    """A swapped root can be swapped again; the lock moves on each time, and nothing of the former
    roots stays behind."""
    fd = enter_bare_root(scratch, caller)
    base = base_of(fd)
    swap_root(assemble("first.txt"))
    os.mkdir("/build")
    tree = assemble("second.txt")

    swap_root(tree)

    assert sorted(os.listdir("/")) == ["child", "second.txt"]
    assert namespace_tree(fd).mount_points() == ["/", "/child", "/child/deep"]
    assert base_of(fd) == base
    assert locks() == {"/child": False, "/child/deep": False}
    assert outcome(umount2, "/", MNT_DETACH) == ("EINVAL" if caller.foreign else "success")
    assert len(listmount()) == (3 if caller.foreign else 0)


@pytest.mark.rule("N6")
def test_swap_to_a_tree_brought_along(scratch: Path) -> None:
    """The new root may be a tree cloned before entering, in the namespace the caller came from."""
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "child", "child.txt")
    expected = predict_copy(top, recursive=True)
    tree = clone(top, recursive=True)
    fd = enter_bare_root(scratch, Caller.OWNER)

    swap_root(tree)

    assert namespace_tree(fd).lines() == expected.lines()
    assert Path("/child/child.txt").read_text() == "child.txt"


@pytest.mark.rule("N6")
def test_swap_to_an_assembled_detached_tree(caller: Caller, scratch: Path) -> None:
    """The new root can be put together without ever being mounted: mounts are moved into the
    detached tree, which is then slid under the root as a whole."""
    fd = enter_bare_root(scratch, caller)
    tree, child = fresh_tmpfs(), fresh_tmpfs()
    os.mkdir("child", dir_fd=tree)
    inside = os.open("child", os.O_PATH | os.O_DIRECTORY, dir_fd=tree)
    move_mount(child, "", inside, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

    swap_root(tree)

    assert [mount.mnt_id for mount in mount_table()] == [mnt_id_of(tree), mnt_id_of(child)]
    assert namespace_tree(fd).mount_points() == ["/", "/child"]


@pytest.mark.rule("N6")
def test_swap_leaves_others_where_they_are(scratch: Path) -> None:
    """Unlike pivot_root(2) the swap moves nobody but who steps over: a directory held open is on
    the old root still, dead now."""
    fd = enter_bare_root(scratch, Caller.OWNER)
    old = mnt_id_of("/")
    held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    tree = assemble("new.txt")
    attach_beneath(tree, "/")
    os.fchdir(tree)
    os.chroot(".")
    # Still mounted: reachable by number only.
    assert (mnt_id_of(held), old in listmount(ns_fd=fd)) == (old, True)

    umount2(".", MNT_DETACH)

    assert old not in listmount()
    assert (mnt_id_of(held), sorted(os.listdir(held))) == (old, ["bare.txt", "build"])
    fails(errno.EINVAL, copy, "", dirfd=held)


@pytest.mark.rule("N6", "B7")
@pytest.mark.usefixtures("unlocked")
@pytest.mark.upstream("move_mount.beneath_rootfs_in_chroot_fail")
def test_refusals(scratch: Path) -> None:
    """Nothing goes beneath the base, nor beneath what is no mount's root, nor with something on
    top of it, nor the root beneath itself: EINVAL, and nothing changes."""
    fd = enter_bare_root(scratch, Caller.OWNER)
    covered = assemble()
    over = fresh_tmpfs()
    move_mount(over, "", covered, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    before = mount_table()

    found = {
        "a covered tree": outcome(attach_beneath, covered, "/"),
        "a directory": outcome(attach_beneath, fresh_tmpfs(), "/build"),
        "itself": outcome(move_mount, AT_FDCWD, "/", AT_FDCWD, "/", MOVE_MOUNT_BENEATH),
    }
    assert mount_table() == before
    os.chroot("/build")
    os.chdir("/")
    found["a chroot"] = outcome(attach_beneath, fresh_tmpfs(), "/")
    enter(fd)
    assert mount_table() == before
    umount2("/", MNT_DETACH)
    enter(fd)
    found["the base"] = outcome(attach_beneath, fresh_tmpfs(), "/")

    assert found == dict.fromkeys(
        ["a covered tree", "a directory", "itself", "a chroot", "the base"], "EINVAL"
    )
    assert [mount.fs_type for mount in mount_table()] == ["nullfs"]


@pytest.mark.needs("UNSHARE_EMPTY_MNTNS")
@pytest.mark.rule("N6", "P16")
@pytest.mark.usefixtures("unlocked")
def test_from_nothing(scratch: Path) -> None:
    """The whole design at once, without a mount of the host: a tmpfs made by fsmount(2) becomes a
    namespace, is entered, and gives way to a root put together inside."""
    first = fresh_tmpfs()
    os.mkdir("build", dir_fd=first)
    fd = copy("", dirfd=first)
    enter(fd)
    tree = fresh_tmpfs()
    attach(tree, "/build")
    write(Path("/build/root.txt"))
    swap_root(clone("/build", recursive=True))
    assert (os.listdir("/"), len(listmount())) == (["root.txt"], 1)
    assert base_of(fd).fs_type == "nullfs"


@pytest.mark.rule("R8", "N6")
@pytest.mark.needs("mount events")
def test_events_of_a_swap(scratch: Path) -> None:
    """Who watches the namespace hears of each mount that comes, moves or goes once: while a mount
    is moved, one is put beneath the root, and the old root is taken away with all on it."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "a")
    tmpfs(top / "a" / "b")
    (top / "c").mkdir()
    fd = copy(top, recursive=True)
    root, a, b = listmount(ns_fd=fd)
    watch = mount_watch(fd)
    enter(fd)
    both = FAN_MNT_ATTACH | FAN_MNT_DETACH

    move_mount(AT_FDCWD, "/a", AT_FDCWD, "/c", 0)
    assert mount_events(watch) == [(both, a)]

    tree = fresh_tmpfs()
    new = mnt_id_of(tree)
    attach_beneath(tree, "/")
    assert mount_events(watch) == [(FAN_MNT_ATTACH, new)]

    os.fchdir(tree)
    os.chroot(".")
    umount2(".", MNT_DETACH)
    assert sorted(mount_events(watch)) == [(FAN_MNT_DETACH, mnt_id) for mnt_id in (root, a, b)]
    assert listmount() == [new]


@pytest.mark.rule("N5")
def test_pivot_root_from_a_dead_root(scratch: Path) -> None:
    """Whose root was unmounted has no root to exchange: pivot_root(2) is EINVAL, though the new
    root and the place for the old are mounts of the namespace."""
    top = tmpfs(scratch / "top")
    enter(copy(top))
    tree = fresh_tmpfs()
    attach_beneath(tree, "/")
    umount2("/", MNT_DETACH)
    os.fchdir(tree)
    child = fresh_tmpfs()
    os.mkdir("child")
    os.mkdir("old", dir_fd=child)
    attach(child, "child")
    before = listmount(mnt_id_of(tree))

    found = {
        "itself": outcome(pivot_root, ".", "."),
        "a child": outcome(pivot_root, "child", "child/old"),
    }

    assert found == {"itself": "EINVAL", "a child": "EINVAL"}
    assert listmount(mnt_id_of(tree)) == before
