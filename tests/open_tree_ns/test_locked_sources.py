# SPDX-License-Identifier: GPL-2.0-only
"""What locks at the source do to a copy: what it inherits, and what may not be left out of it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter
from tests.open_tree_ns.trees import enter_foreign_copy, nested_tree
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.locks import is_locked, locks
from tests.utils.mounts.root import enter_unlocked_namespace
from tests.utils.mounts.trees import bind, fresh_tmpfs, propagation, tmpfs, write
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_UNBINDABLE,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    umount2,
)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K3")
@pytest.mark.parametrize(
    ("over", "beneath"),
    [
        pytest.param(0, 0, id="locked"),
        pytest.param(1, 0, id="one_over_it"),
        pytest.param(3, 0, id="three_over_it"),
        pytest.param(
            0, 2, id="lock_passed_down", marks=pytest.mark.needs("MOVE_MOUNT_BENEATH on the root")
        ),
    ],
)
def test_copy_below_a_locked_root(over: int, beneath: int, scratch: Path) -> None:
    """A locked mount anywhere in the stack on the root of the caller's namespace locks the top of
    an owner's copy, be it of a child or of a tmpfs that never was in that namespace."""
    enter_foreign_copy(nested_tree(scratch))
    for _ in range(over):
        attach(fresh_tmpfs(), "/")
    for _ in range(beneath):
        attach_beneath(fresh_tmpfs(), "/")

    copies = [
        copy("/b"),
        copy("", dirfd=fresh_tmpfs()),
    ]

    for fd in copies:
        enter(fd)
        fails(errno.EINVAL, umount2, "/", MNT_DETACH)
        assert len(mount_table()) == 1


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_copy_below_an_unlocked_stack(scratch: Path) -> None:
    """However many mounts lie on the root of the caller's namespace: where none of them is locked
    the top of an owner's copy is free."""
    top = tmpfs(scratch / "top")
    for _ in range(3):
        attach(fresh_tmpfs(), "/")
    enter(copy(top))

    umount2("/", MNT_DETACH)

    assert mount_table() == []


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K3", "K4")
@pytest.mark.needs("UNSHARE_EMPTY_MNTNS")
def test_lock_of_the_source_stays_behind(scratch: Path) -> None:
    """What was locked to its place as a child is free as the top of an owner's copy: there is
    nothing below it but the base. Only the root of the caller's namespace decides."""
    top = nested_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_foreign_copy(top)
    enter_unlocked_namespace()
    assert is_locked("/b")
    enter(copy("/b"))

    end = outcome(umount2, "/", MNT_DETACH)

    assert end == "success"
    assert mount_table() == []


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K3", "K5")
def test_recursive_copy_keeps_each_lock(scratch: Path) -> None:
    """A recursive owner's copy, and the copy of that copy, have the locks of their source: locked
    children are locked, the caller's own mounts are free."""
    enter_foreign_copy(nested_tree(scratch))
    tmpfs(Path("/own"))
    tmpfs(Path("/a/own"))
    found = locks()
    assert found == {"/a": True, "/a/inner": True, "/b": True, "/own": False, "/a/own": False}

    for _ in range(2):
        enter(copy("/", recursive=True))
        assert locks() == found


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K1")
@pytest.mark.needs("nested user namespace")
def test_foreign_copy_of_a_copy_locks_all(scratch: Path) -> None:
    """A foreign copy of a copy locks what was free in its source, too."""
    top = nested_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_foreign_copy(top)
    tmpfs(Path("/own"))
    assert not is_locked("/own")
    enter_foreign_copy(Path("/"))
    assert {path: locked for path, locked in locks().items() if not path.startswith("/proc")} == {
        "/a": True,
        "/a/inner": True,
        "/b": True,
        "/own": True,
    }


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K5")
def test_single_copy_with_a_locked_child(scratch: Path) -> None:
    """Without AT_RECURSIVE a directory is EINVAL, for the owner too, exactly when a locked mount
    lies on or below it; the owner's own mounts there do not count."""
    top = nested_tree(scratch)
    write(top / "dir/sub/file")
    bind(top / "top.txt", top / "dir/sub/file")
    (top / "dir/empty").mkdir()
    enter_foreign_copy(top)
    tmpfs(Path("/own"))
    tmpfs(Path("/elsewhere/mine"))
    directories = ["/", "/a", "/dir", "/dir/sub", "/dir/empty", "/b", "/own", "/elsewhere"]

    found = {path: outcome(copy, path) for path in directories}

    covered = ["/", "/a", "/dir", "/dir/sub"]
    assert found == {path: "EINVAL" if path in covered else "success" for path in directories}


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K6")
@fixes.KEEP_COVERED
def test_foreign_single_copy(scratch: Path) -> None:
    """A foreign caller without AT_RECURSIVE is refused with EINVAL exactly when something is
    mounted on or below the directory: a directory, a file, deeper down, or a mount over it."""
    top = nested_tree(scratch)
    write(top / "dir/sub/file")
    bind(top / "top.txt", top / "dir/sub/file")
    (top / "dir/empty").mkdir()
    tmpfs(top / "stack", "buried")
    buried = os.open(top / "stack", os.O_PATH)
    tmpfs(top / "stack", "visible")
    before = mount_table()
    become_foreign()
    covered = ["", "a", "dir", "dir/sub"]
    leaves = ["a/inner", "b", "dir/empty", "own", "stack"]

    found = {path: outcome(copy, top / path) for path in [*covered, *leaves]}
    found["buried"] = outcome(copy, "", dirfd=buried)

    assert found == {
        **dict.fromkeys([*covered, "buried"], "EINVAL"),
        **dict.fromkeys(leaves, "success"),
    }
    assert mount_table() == before


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K7")
@fixes.KEEP_UNBINDABLE
def test_locked_and_unbindable(scratch: Path) -> None:
    """A child that is locked and unbindable can neither be copied nor left out: each recursive
    copy is EPERM; beside it all is as usual."""
    top = nested_tree(scratch)
    propagation(top / "a" / "inner", MS_UNBINDABLE)
    enter_foreign_copy(top)
    before = mount_table()

    found = {
        "namespace": outcome(copy, "/", recursive=True),
        "namespace of /a": outcome(copy, "/a", recursive=True),
        "clone": outcome(clone, "/a", recursive=True),
        "rbind": outcome(mount, "/a", "/own", None, MS_BIND | MS_REC),
        "itself": outcome(copy, "/a/inner", recursive=True),
        "/b": outcome(copy, "/b", recursive=True),
    }

    assert found == {
        **dict.fromkeys(["namespace", "namespace of /a", "clone", "rbind"], "EPERM"),
        "itself": "EINVAL",
        "/b": "success",
    }
    assert mount_table() == before


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K7")
def test_unbindable_below_a_lock_of_ones_own(scratch: Path) -> None:
    """The owner of a locked namespace may leave out an unbindable mount of its own as anywhere."""
    enter_foreign_copy(nested_tree(scratch))
    propagation(tmpfs(Path("/own")), MS_UNBINDABLE)
    expected = predict_copy("/", recursive=True)
    fd = copy("/", recursive=True)
    assert namespace_tree(fd).mount_points() == ["/", "/a", "/a/inner", "/b"]
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_stack_that_is_gone_does_not_count(scratch: Path) -> None:
    """Mounts that lay on the root of the caller's namespace and were taken off again have no part
    in the next copy: its top is free, and all of it is what it should be."""
    top = tmpfs(scratch / "top")
    for _ in range(3):
        tree = fresh_tmpfs()
        attach(tree, "/")
        os.fchdir(tree)
        umount2(".", MNT_DETACH)
    enter(copy(top))
    assert [mount.fs_type for mount in mount_table()] == ["tmpfs"]
    umount2("/", MNT_DETACH)
    assert mount_table() == []
