# SPDX-License-Identifier: GPL-2.0-only
"""Moving mounts inside the copy: where "/" leads, what stays where it is, and whom a new root takes
along."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, copy, enter, mount_points
from tests.open_tree_ns.trees import nested_tree
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.trees import fresh_tmpfs, propagation, tmpfs
from tests.utils.tasks.process import deferred_call
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MS_MOVE,
    MS_PRIVATE,
    MS_SHARED,
    MS_UNBINDABLE,
)
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import attach, mount, move_mount, pivot_root


@pytest.mark.rule("N14")
@pytest.mark.needs("MOVE_MOUNT_BENEATH on the root")
def test_root_path_leads_to_the_topmost(caller: Caller, scratch: Path) -> None:
    """A task whose root lies buried mounts on top of the whole stack by "/", and puts a tree
    beneath the topmost of it, and not on or beneath its own root."""
    top = tmpfs(scratch / "top")
    caller.act()
    enter(copy(top, recursive=True))
    own = mnt_id_of("/")
    trees = [fresh_tmpfs() for _ in range(4)]
    first, second, third, beneath = (mnt_id_of(tree) for tree in trees)

    for tree in trees[:3]:
        attach(tree, "/")
    attach_beneath(trees[3], "/")

    parents = {m.mnt_id: m.mnt_parent_id for m in mount_table()}
    assert mnt_id_of("/") == own
    assert [parents[mnt_id] for mnt_id in (first, second, beneath, third)] == [
        own,
        first,
        second,
        beneath,
    ]


def moved(source: str, target: str) -> dict[str, Outcome]:
    """Move the mount at *source* to *target* by either call; return how that ended."""
    return {
        "move_mount": outcome(move_mount, AT_FDCWD, source, AT_FDCWD, target, 0),
        "mount": outcome(mount, source, target, None, MS_MOVE),
    }


@pytest.mark.rule("N15")
def test_mount_on_a_shared_one_stays(caller: Caller, scratch: Path) -> None:
    """A mount that lies on a shared one cannot be moved, as its copies would stay behind: EINVAL.
    It can once what it lies on is private."""
    top = nested_tree(scratch)
    caller.act()
    enter(copy(top, recursive=True))
    tmpfs(Path("/own"))
    mount(None, "/", None, MS_SHARED)
    before = mount_table()

    shared = moved("/own", "/elsewhere"), moved("/own", "/b")
    after = mount_table()
    mount(None, "/", None, MS_PRIVATE)
    private = outcome(move_mount, AT_FDCWD, "/own", AT_FDCWD, "/elsewhere", 0)

    assert shared == (dict.fromkeys(["move_mount", "mount"], "EINVAL"),) * 2
    assert (after, private) == (before, "success")
    assert "/elsewhere" in mount_points()


@pytest.mark.rule("N15")
def test_unbindable_tree_does_not_go_onto_a_shared_mount(caller: Caller, scratch: Path) -> None:
    """A tree with an unbindable mount anywhere in it cannot be moved onto a shared mount, whose
    peers cannot have copies of it: EINVAL; onto a private one it can."""
    top = nested_tree(scratch)
    caller.act()
    enter(copy(top, recursive=True))
    for place in ("/own", "/own/deep", "/own/deep/deeper"):
        tmpfs(Path(place))
    propagation(Path("/own/deep/deeper"), MS_UNBINDABLE)
    (Path("/b") / "place").mkdir()
    mount(None, "/b", None, MS_SHARED)
    before = mount_table()

    shared = moved("/own", "/b/place")
    assert mount_table() == before
    private = outcome(move_mount, AT_FDCWD, "/own", AT_FDCWD, "/elsewhere", 0)

    assert (shared, private) == (dict.fromkeys(["move_mount", "mount"], "EINVAL"), "success")


@pytest.mark.rule("N16")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root_takes_along_who_stands_on_the_old_root(caller: Caller, scratch: Path) -> None:
    """pivot_root(2) moves root and working directory of every task that has them on the old root,
    each for itself; who stands in a directory of it, or on another mount, stays there."""
    top = nested_tree(scratch)
    (top / "new").mkdir()
    caller.act()
    enter(copy(top, recursive=True))
    new = tmpfs(Path("/new"), "old/file")
    (new / "put").mkdir()
    old, a = mnt_id_of("/"), mnt_id_of("/a")
    here = os.open(".", os.O_PATH)

    def where() -> tuple[int, int]:
        return mnt_id_of("/"), mnt_id_of(".")

    with ExitStack() as stack:
        tasks = {"on the old root": stack.enter_context(deferred_call(where))}
        for name, directory in (("in a directory", "/own"), ("on another mount", "/a")):
            os.chdir(directory)
            tasks[name] = stack.enter_context(deferred_call(where))
        os.fchdir(here)
        pivot_root(new, new / "put")
        found = {name: task() for name, task in tasks.items()}

    top_id = mnt_id_of("/")
    assert top_id not in (old, a)
    assert found == {
        "on the old root": (top_id, top_id),
        "in a directory": (top_id, old),
        "on another mount": (top_id, a),
    }


@pytest.mark.rule("N16")
@pytest.mark.usefixtures("unlocked")
def test_pivot_root_leaves_other_namespaces_alone(scratch: Path) -> None:
    """A task in another copy of the same tree stays on its root. One that changed its root to a
    directory of the old one keeps that; its working directory, the old root, is moved."""
    top = nested_tree(scratch)
    (top / "new").mkdir()
    fd, other = copy(top, recursive=True), copy(top, recursive=True)

    def where() -> tuple[int, int]:
        return mnt_id_of("/"), mnt_id_of(".")

    with ExitStack() as stack:
        enter(other)
        elsewhere = where()
        apart = stack.enter_context(deferred_call(where))
        enter(fd)
        inside = os.open("/", os.O_PATH)
        old = mnt_id_of("/")
        os.chroot("/own")
        jailed = stack.enter_context(deferred_call(where))
        os.fchdir(inside)
        os.chroot(".")
        new = tmpfs(Path("/new"))
        (new / "put").mkdir()
        pivot_root(new, new / "put")
        found = {"another copy": apart(), "changed root": jailed()}

    assert found == {"another copy": elsewhere, "changed root": (old, mnt_id_of("/"))}
