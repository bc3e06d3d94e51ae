# SPDX-License-Identifier: GPL-2.0-only
"""What may be taken apart again: mounts locked together in a foreign copy, free in an owner's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import clone, copy, enter, mount_points
from tests.open_tree_ns.trees import enter_foreign_copy, nested_tree
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.mounts.locks import locks
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import bind, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MS_BIND,
    MS_MOVE,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_id
from tests.utils.uapi.statmount import listmount, mount_table, statmount
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    mount_setattr,
    move_mount,
    umount2,
)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
@pytest.mark.upstream("open_tree_ns_userns.umount_fails_einval")
def test_umount_fails_einval(scratch: Path) -> None:
    """In a foreign caller's copy no mount can be unmounted, neither the top nor any child."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert [mount.mnt_point for mount in before] == ["/", "/a", "/a/inner", "/b"]

    for mounted in reversed(before):
        for flags in (MNT_DETACH, 0):
            fails(errno.EINVAL, umount2, mounted.mnt_point, flags)

    assert mount_table() == before


@pytest.mark.rule("K4")
@pytest.mark.upstream("open_tree_ns_userns.umount_succeeds")
@pytest.mark.usefixtures("unlocked")
def test_umount_succeeds(scratch: Path) -> None:
    """In an owner's copy every mount can be detached, the top too; empty nullfs is what remains,
    and the source keeps all its mounts."""
    top = nested_tree(scratch)
    source = mount_table()
    here = current_mnt_ns()
    fd = copy(top, recursive=True)
    base = statmount(listmount(ns_fd=fd)[0], ns_fd=fd).mnt_parent_id
    enter(fd)
    mount(None, "/", None, MS_SLAVE | MS_REC)

    mounted = mount_table()
    for child in reversed(mounted):
        umount2(child.mnt_point, MNT_DETACH)
        gone = mounted.pop()
        if gone.mnt_point != "/":
            assert mount_table() == mounted

    enter(fd)
    remains = statmount(base)
    assert [mount.mnt_id for mount in mount_table()] == [base]
    assert (remains.fs_type, os.listdir("/")) == ("nullfs", [])
    enter(here)
    assert mount_table() == source


def try_all_moves() -> dict[str, Outcome]:
    """Move a child, or the root, of :func:`nested_tree` in every way; return how each ended."""
    into, beneath = 0, MOVE_MOUNT_BENEATH
    return {
        "the root": outcome(move_mount, AT_FDCWD, "/", AT_FDCWD, "/own", into),
        "beneath": outcome(move_mount, AT_FDCWD, "/a/inner", AT_FDCWD, "/b", beneath),
        "a child": outcome(move_mount, AT_FDCWD, "/a", AT_FDCWD, "/elsewhere", into),
        "MS_MOVE": outcome(mount, "/b", "/own", None, MS_MOVE),
    }


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
def test_locked_mounts_cannot_be_moved(scratch: Path) -> None:
    """In a foreign caller's copy no mount can be moved away: EINVAL, whatever call is used."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert try_all_moves() == dict.fromkeys(["the root", "a child", "MS_MOVE", "beneath"], "EINVAL")
    assert mount_table() == before


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1", "K2")
def test_single_foreign_copy_is_locked(scratch: Path) -> None:
    """A foreign copy made without AT_RECURSIVE is locked like any other: it cannot be detached,
    and its restrictions cannot be taken off."""
    leaf = tmpfs(scratch / "leaf", flags=MS_NOSUID)
    become_foreign()
    fd = copy(leaf)
    enter(fd)
    before = mount_table(ns_fd=fd)

    found = {
        "clearing nosuid": outcome(mount_setattr, AT_FDCWD, "/", attr_clr=MOUNT_ATTR_NOSUID),
        "detaching": outcome(umount2, "/", MNT_DETACH),
    }

    assert found == {"clearing nosuid": "EPERM", "detaching": "EINVAL"}
    assert mount_table(ns_fd=fd) == before


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_unlocked_mounts_can_be_moved(scratch: Path) -> None:
    """In an owner's copy each child can be moved, also beneath another; the root is refused only
    because it cannot go into itself: ELOOP."""
    enter(copy(nested_tree(scratch), recursive=True))
    assert try_all_moves() == {
        "the root": "ELOOP",
        **dict.fromkeys(["a child", "MS_MOVE", "beneath"], "success"),
    }
    assert sorted(os.listdir("/elsewhere")) == ["a.txt", "inner", "own"]


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
def test_later_mounts_are_free(scratch: Path) -> None:
    """What the owner of a foreign copy mounts there itself can be moved and unmounted, also from
    on top of a locked mount, which is as locked as before."""
    enter_foreign_copy(nested_tree(scratch))
    tmpfs(Path("/own"))
    tmpfs(Path("/a/own"))
    tmpfs(Path("/b"))
    move_mount(AT_FDCWD, "/a/own", AT_FDCWD, "/elsewhere", 0)
    assert [mount.mnt_point for mount in mount_table()[4:]] == ["/own", "/elsewhere", "/b"]

    for path in ("/own", "/elsewhere", "/b"):
        umount2(path, MNT_DETACH)

    assert locks() == {"/a": True, "/a/inner": True, "/b": True}
    assert Path("/b/b.txt").read_text() == "b.txt"


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
def test_copies_of_locked_mounts(scratch: Path) -> None:
    """Bind mounts cannot show what a locked child covers either: a single one is EINVAL, a
    recursive one keeps the children locked, and only its top is free."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert {
        "bind": outcome(mount, "/", "/own", None, MS_BIND),
        "clone": outcome(clone, "/"),
        "bind of /a": outcome(mount, "/a", "/own", None, MS_BIND),
    } == {"bind": "EINVAL", "clone": "EINVAL", "bind of /a": "EINVAL"}
    assert mount_table() == before

    bind(Path("/b"), Path("/own"))
    attach(clone("/a", recursive=True), "/elsewhere")

    assert locks() == {
        "/a": True,
        "/a/inner": True,
        "/b": True,
        "/own": False,
        "/elsewhere": False,
        "/elsewhere/inner": True,
    }


def detach_locked_trees(scratch: Path) -> tuple[int, dict[str, int]]:
    """Enter a foreign copy, bind trees with locked mounts into each other, and unmount them lazily.

    Return the namespace, and directories on those trees by where they were mounted.
    """
    top = tmpfs(scratch / "top", "covered/under.txt")
    tmpfs(top / "covered", "cover.txt", "deep/under.txt")
    tmpfs(top / "covered" / "deep", "deep.txt")
    for name in ("one", "two"):
        (top / name).mkdir()
    become_foreign()
    fd = copy(top, recursive=True)
    enter(fd)
    bind(Path("/covered"), Path("/one"), recursive=True)
    attach(clone("/", recursive=True), "/two")
    paths = ("/one", "/one/deep", "/two", "/two/covered", "/two/covered/deep", "/two/one")
    held = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths}
    umount2("/two", MNT_DETACH)
    umount2("/one", MNT_DETACH)
    return fd, held


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
def test_detached_locked_trees_hide_what_they_cover(scratch: Path) -> None:
    """Directories held open in lazily unmounted trees do not show what the locked mounts on them
    covered, and no other mount is gone."""
    fd, held = detach_locked_trees(scratch)
    covered = {
        "/one": "deep/under.txt",
        "/two": "covered/under.txt",
        "/two/covered": "deep/under.txt",
        "/two/one": "deep/under.txt",
    }

    found = {place: outcome(os.stat, name, dir_fd=held[place]) for place, name in covered.items()}

    assert found == dict.fromkeys(covered, "ENOENT")
    assert mount_points(fd) == ["/", "/covered", "/covered/deep"]


@pytest.mark.needs("user namespace")
@pytest.mark.rule("T1")
def test_detached_locked_trees_end_with_the_last_task(scratch: Path) -> None:
    """Trees with locked mounts in them, unmounted lazily and held open, do not keep a namespace:
    it ends with its last task."""
    mnt_ns_id = in_child(lambda: ns_id(detach_locked_trees(scratch)[0]))

    assert gone(mnt_ns_id), "the namespace lives on"
