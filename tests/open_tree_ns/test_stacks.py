# SPDX-License-Identifier: GPL-2.0-only
"""Mounts on one place: a path leads to the topmost, an open descriptor to the one it is on."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import readable, tmpfs
from tests.utils.uapi.constants import (
    MNT_DETACH,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import umount2


def stack(scratch: Path) -> tuple[Path, list[int]]:
    """Put three mounts on one place; return it, and a descriptor of each root, lowest first."""
    top = scratch / "top"
    roots = []
    for name in ("lower", "middle", "upper"):
        tmpfs(top, name)
        roots.append(os.open(top, os.O_PATH | os.O_DIRECTORY))
    return top, roots


@pytest.mark.rule("C6")
def test_path_names_the_topmost(caller: Caller, scratch: Path) -> None:
    """Of a stack a path copies the topmost mount alone, with AT_RECURSIVE or without."""
    top, _ = stack(scratch)
    expected = predict_copy(top, recursive=False, foreign=caller.foreign).lines()
    caller.act()

    single = copy(top)
    recursive = copy(top, recursive=True)

    assert len(expected) == 1
    assert namespace_tree(single).lines() == expected
    assert namespace_tree(recursive).lines() == expected
    enter(recursive)
    assert readable("/") == {"upper": "upper"}


@pytest.mark.rule("C6")
def test_owner_copies_a_buried_mount_alone(scratch: Path) -> None:
    """Without AT_RECURSIVE the owner gets the one mount the descriptor is on: what was buried is
    in the open."""
    _, roots = stack(scratch)
    expected = [predict_copy(root, recursive=False).lines() for root in roots]

    fds = [copy("", dirfd=root) for root in roots]

    assert [namespace_tree(fd).lines() for fd in fds] == expected
    for fd, name in zip(fds, ("lower", "middle", "upper"), strict=True):
        enter(fd)
        assert readable("/") == {name: name}


@pytest.mark.rule("C6", "Y5", "N1")
def test_recursive_copy_of_a_buried_mount(caller: Caller, scratch: Path) -> None:
    """With AT_RECURSIVE the copy holds the mount of the descriptor and those over it, not those
    under it; who enters stands on the topmost, and sees only that listed."""
    _, roots = stack(scratch)
    expected = [predict_copy(r, recursive=True, foreign=caller.foreign) for r in roots]
    caller.act()

    fds = [copy("", dirfd=root, recursive=True) for root in roots]

    assert [len(listmount(ns_fd=fd)) for fd in fds] == [3, 2, 1]
    assert [namespace_tree(fd).lines() for fd in fds] == [tree.lines() for tree in expected]
    for fd in fds:
        topmost = listmount(ns_fd=fd)[-1]
        enter(fd)
        where = {path: mnt_id_of(path) for path in ("/", ".")}
        assert where == {"/": topmost, ".": topmost}
        assert readable("/") == {"upper": "upper"}
        assert [mount.mnt_id for mount in mount_table()] == [topmost]


@pytest.mark.rule("C6", "K6")
@pytest.mark.needs("user namespace")
@fixes.KEEP_COVERED
def test_foreign_caller_may_not_leave_out_what_lies_on_top(scratch: Path) -> None:
    """An overmount counts as mounted below: without AT_RECURSIVE a foreign caller's buried mount
    is EINVAL, and the topmost one is not."""
    _, roots = stack(scratch)
    expected = predict_copy(roots[2], recursive=False, foreign=True)
    Caller.FOREIGN.act()

    for root in roots[:2]:
        fails(errno.EINVAL, copy, "", dirfd=root)

    fd = copy("", dirfd=roots[2])
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("C6", "K4")
@pytest.mark.usefixtures("unlocked")
def test_stack_is_taken_down_from_the_top(scratch: Path) -> None:
    """In an owner's copy each detached mount uncovers the one below it, down to the lowest, and
    the source's stack stays."""
    _, roots = stack(scratch)
    source = mount_table()
    here = current_mnt_ns()
    fd = copy("", dirfd=roots[0], recursive=True)

    seen = []
    for _ in roots:
        enter(fd)
        seen.append(os.listdir("/"))
        umount2("/", MNT_DETACH)

    assert seen == [["upper"], ["middle"], ["lower"]]
    enter(here)
    assert mount_table() == source


@pytest.mark.rule("C6", "C2")
def test_stacks_below_the_top(caller: Caller, scratch: Path) -> None:
    """A stack on a child is copied whole and in its order, with the mounts on each of its layers,
    buried ones too; inside, the paths show the topmost."""
    top = tmpfs(scratch / "top", "top.txt")
    for layer in ("one", "two", "three"):
        tmpfs(top / "place", layer)
        tmpfs(top / "place" / "child", f"{layer}.txt")
        tmpfs(top / "place" / "child", f"{layer}.over")
    files = readable(top)
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert copied.lines() == expected.lines()
    assert len(copied.lines()) == 10
    enter(fd)
    assert readable("/") == files
    assert sorted(files) == ["place/child/three.over", "place/three", "top.txt"]
