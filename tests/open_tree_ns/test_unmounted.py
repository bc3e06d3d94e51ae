# SPDX-License-Identifier: GPL-2.0-only
"""Mounts that were unmounted while a descriptor kept them: what can still be done with them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter, set_group
from tests.open_tree_ns.trees import small_tree, tree_with_proc
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.mounts.trees import fresh_tmpfs, propagation, tmpfs, write
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount_by_fd
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    mount_setattr,
    move_mount,
    pivot_root,
    umount2,
)


@pytest.mark.rule("BK4", "P12")
@pytest.mark.needs("network namespace")
@fixes.UNMOUNTED_TREES
@pytest.mark.upstream("unmounted_tree.detached_nsfs_bind_not_walked")
@pytest.mark.upstream("unmounted_tree.detached_pidfs_bind_not_walked")
def test_unmounted_trees_are_not_walked(scratch: Path) -> None:
    """What was lazily unmounted inside cannot be copied: EINVAL. Only the file of a namespace, or
    of a task, can, alone and as a bind, since it could be had in other ways."""
    enter(copy(tree_with_proc(scratch), recursive=True))
    tmpfs(Path("/dir"))
    tmpfs(Path("/dir/child"))
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    attach(clone("", dirfd=os.pidfd_open(os.getpid())), write(Path("/task")))
    paths = ("/dir", "/dir/child", "/file", "/task")
    held = {name: os.open(name, os.O_PATH) for name in paths}
    for name in ("/dir", "/file", "/task"):
        umount2(name, MNT_DETACH)

    def copies(name: str) -> dict[str, Outcome]:
        fd, source = held[name], f"/proc/self/fd/{held[name]}"
        return {
            "namespace": outcome(copy, "", dirfd=fd),
            "recursive namespace": outcome(copy, "", dirfd=fd, recursive=True),
            "recursive clone": outcome(clone, "", dirfd=fd, recursive=True),
            "clone": outcome(clone, "", dirfd=fd),
            "rbind": outcome(mount, source, "/file", None, MS_BIND | MS_REC),
        }

    dead = dict.fromkeys(
        ["namespace", "recursive namespace", "recursive clone", "clone", "rbind"], "EINVAL"
    )
    file = {"namespace": "ENOTDIR", "recursive namespace": "ENOTDIR", "clone": "success"}
    assert {name: copies(name) for name in held} == {
        "/dir": {**dead, "rbind": "EINVAL"},
        "/dir/child": dead,
        "/file": {**dead, **file},
        "/task": {**dead, **file},
    }


@pytest.mark.rule("BK5")
@pytest.mark.needs("network namespace")
@fixes.CLONED_UMOUNT_FLAG
@pytest.mark.upstream("unmounted_tree.copy_of_detached_bind_is_ordinary")
def test_copy_of_an_unmounted_file_is_an_ordinary_mount(scratch: Path) -> None:
    """A bind of a namespace's file that was unmounted can be bound again, and that bind is a mount
    like others: it ends when its place is removed from outside."""
    outside = tree_with_proc(scratch)
    fd, here = copy(outside, recursive=True), current_mnt_ns()
    enter(fd)
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = os.open("/file", os.O_PATH)
    umount2("/file", MNT_DETACH)
    before = listmount()
    mount(f"/proc/self/fd/{held}", "/file", None, MS_BIND)
    again = os.open("/file", os.O_PATH)
    assert len(listmount()) == len(before) + 1
    enter(here)

    (outside / "file").unlink()

    enter(fd)
    assert listmount() == before
    change = outcome(mount_setattr, again, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID)
    assert change == "EINVAL"


def left_behind(scratch: Path) -> int:
    """Enter a new namespace; return a descriptor of a mount there that was unmounted from outside
    while another lay on it, which slid down and is gone too."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "a", "propagated.txt")
    fd, here = copy(top, recursive=True), current_mnt_ns()
    enter(fd)
    mount(None, "/", None, MS_SLAVE)
    mount(None, "/a", None, MS_SLAVE)
    held = os.open("/a", os.O_PATH)
    over = tmpfs(Path("/a"), "own.txt")
    slid = mnt_id_of(over)
    enter(here)

    umount2(top / "a", MNT_DETACH)

    enter(fd)
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
        "single": outcome(copy, "", dirfd=held),
        "recursive": outcome(copy, "", dirfd=held, recursive=True),
        "clone": outcome(clone, "", dirfd=held),
    } == dict.fromkeys(["single", "recursive", "clone"], "EINVAL")
    assert len(mount_table()) == 1


@pytest.mark.needs("expendable kernel")  # without the fix it follows a pointer to freed memory
@pytest.mark.rule("BK6")
@fixes.STALE_OVERMOUNT
@pytest.mark.upstream("overmount_reparent.dead_overmount_holder_not_followed")
def test_what_slid_off_a_dead_mount_is_forgotten(scratch: Path) -> None:
    """Nothing can be moved beneath what once lay on the dead mount: ENOENT."""
    # Made first: a mount made afterwards may get the memory of what lay there, and do instead.
    tree = fresh_tmpfs()
    held = left_behind(scratch)
    beneath = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_BENEATH
    fails(errno.ENOENT, move_mount, tree, "", held, "", beneath)
    assert len(mount_table()) == 1


@pytest.mark.rule("N12")
@pytest.mark.needs("STATMOUNT_BY_FD")
def test_unmounted_trees_are_not_changed(caller: Caller, scratch: Path) -> None:
    """mount_setattr(2) changes nothing of a tree that was lazily unmounted inside, recursively or
    not, neither attributes nor the type, nor does mount(2) the type; and it joins no group, nor is
    its own joined: EINVAL."""
    top = tmpfs(scratch / "top")
    (top / "dir").mkdir()
    caller.act()
    enter(copy(top, recursive=True))
    tmpfs(Path("/dir"))
    tmpfs(Path("/dir/child"))
    held = os.open("/dir", os.O_PATH)
    umount2("/dir", MNT_DETACH)
    before = statmount_by_fd(held)

    got = {
        (name, flags): outcome(mount_setattr, held, "", AT_EMPTY_PATH | flags, **change)
        for name, change in (
            ("attribute", {"attr_set": MOUNT_ATTR_NOSUID}),
            ("type", {"propagation": MS_SHARED}),
            ("both", {"attr_set": MOUNT_ATTR_NOSUID, "propagation": MS_SLAVE}),
        )
        for flags in (0, AT_RECURSIVE)
    }
    mounted = os.open("/", os.O_PATH)
    os.fchdir(held)
    others = {
        "type by mount(2)": outcome(mount, None, ".", None, MS_SHARED),
        "joins": outcome(set_group, mounted, held),
        "is joined": outcome(set_group, held, mounted),
    }

    assert got == dict.fromkeys(got, "EINVAL")
    assert others == dict.fromkeys(others, "EINVAL")
    assert statmount_by_fd(held) == before


@pytest.mark.rule("N12")
@pytest.mark.upstream("unmounted_tree.detached_tree_setattr_refused")
def test_dissolved_trees_are_not_changed(scratch: Path) -> None:
    """The type of a detached tree is changed as long as it is one; it ends with its descriptor, and
    through another one on its root nothing is changed: EINVAL."""
    enter(copy(small_tree(scratch), recursive=True))
    tree = clone("/", recursive=True)
    also = os.open(".", os.O_PATH, dir_fd=tree)

    def changed(fd: int) -> list[str]:
        return [
            str(outcome(mount_setattr, fd, "", AT_EMPTY_PATH | flags, propagation=MS_SHARED))
            for flags in (0, AT_RECURSIVE)
        ]

    detached = changed(tree)
    os.close(tree)

    assert (detached, changed(also)) == (["success"] * 2, ["EINVAL"] * 2)


@pytest.mark.rule("BK4")
@pytest.mark.needs("network namespace")
@fixes.UNMOUNTED_TREES
@pytest.mark.upstream("unmounted_tree.vacant_child_not_copied")
def test_tree_whose_place_was_removed_is_not_walked(scratch: Path) -> None:
    """A bind of a namespace's file inside, with another file on top of it, is unmounted when its
    place is removed from outside: what is left of that tree can be copied alone, and not walked."""
    outside = tree_with_proc(scratch)
    write(outside / "other")
    fd, here = copy(outside, recursive=True), current_mnt_ns()
    enter(fd)
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = os.open("/file", os.O_PATH)
    mount("/other", "/file", None, MS_BIND)
    enter(here)

    (outside / "file").unlink()

    enter(fd)
    source = f"/proc/self/fd/{held}"
    found = {
        "recursive clone": outcome(clone, "", dirfd=held, recursive=True),
        "rbind": outcome(mount, source, "/other", None, MS_BIND | MS_REC),
        "clone": outcome(clone, "", dirfd=held),
    }
    assert found == {"recursive clone": "EINVAL", "rbind": "EINVAL", "clone": "success"}


@pytest.mark.rule("N12")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root_across_namespaces(scratch: Path) -> None:
    """pivot_root(2) takes no root from another namespace, nor one that is unmounted, and puts the
    old root neither in another, be the caller's root there, too: EINVAL, and both namespaces stay
    as they are."""
    fd, other = copy(small_tree(scratch), recursive=True), copy(scratch / "top", recursive=True)
    enter(other)
    outside, outer_root = os.open("/child", os.O_PATH), os.open("/", os.O_PATH)
    enter(fd)
    tmpfs(Path("/dir"))
    unmounted = os.open("/dir", os.O_PATH)
    umount2("/dir", MNT_DETACH)
    before = mount_table(), mount_table(ns_fd=other)
    got = {}
    for name, root in (("another's root", outside), ("unmounted root", unmounted)):
        os.fchdir(root)
        got[name] = outcome(pivot_root, ".", "/child")
    os.fchdir(outside)
    got["another's place"] = outcome(pivot_root, "/child", ".")
    os.fchdir(outer_root)
    os.chroot(".")
    got["all of it another's"] = outcome(pivot_root, "/child", "/child")
    enter(fd)

    assert got == dict.fromkeys(got, "EINVAL")
    assert (mount_table(), mount_table(ns_fd=other)) == before
