# SPDX-License-Identifier: GPL-2.0-only
"""Bind mounts of namespace files below the directory: those of mount namespaces are left out."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import is_mnt_ns_file, namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, fresh_tmpfs, readable, tmpfs, write
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import attach, move_mount

KINDS = ("cgroup", "ipc", "net", "pid", "time", "user", "uts")


def bind_new_mnt_ns(scratch: Path, target: Path) -> Path:
    """Bind-mount the file of a new mount namespace at *target*."""
    leaf = tmpfs(scratch / "leaf")
    fd = copy(leaf)
    return bind(Path(f"/proc/self/fd/{fd}"), target)


@pytest.mark.rule("C8")
def test_mount_namespace_files_are_left_out(caller: Caller, scratch: Path) -> None:
    """A child that is a mount namespace's file is not copied, nor what is mounted on it, though
    that namespace be newer; files of other namespaces are, and so is what lies beside."""
    top = tmpfs(scratch / "top", "file", "dir/file")
    tmpfs(top / "dir")
    bind_new_mnt_ns(scratch, top / "mnt")
    bind(top / "file", top / "mnt")
    bind_new_mnt_ns(scratch, top / "dir/mnt")
    kinds = [kind for kind in KINDS if Path(f"/proc/self/ns/{kind}").exists()]
    for kind in kinds:
        bind(Path(f"/proc/self/ns/{kind}"), top / kind)
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert copied.mount_points() == ["/", *sorted(["/dir", *(f"/{kind}" for kind in kinds)])]
    assert copied.lines() == expected.lines()


@pytest.mark.rule("C8")
def test_open_tree_clone_keeps_them(scratch: Path) -> None:
    """It is OPEN_TREE_NAMESPACE that leaves them out: OPEN_TREE_CLONE of the same tree has them."""
    top = tmpfs(scratch / "top", "file")
    bind_new_mnt_ns(scratch, top / "mnt")
    bind(top / "file", top / "mnt")
    (scratch / "clone").mkdir()

    cloned = clone(top, recursive=True)
    fd = copy(top, recursive=True)

    attach(cloned, scratch / "clone")
    prefix = str(scratch / "clone")
    points = [m.mnt_point for m in mount_table() if (m.mnt_point or "").startswith(prefix)]
    assert points == [prefix, f"{prefix}/mnt", f"{prefix}/mnt"]
    assert namespace_tree(fd).mount_points() == ["/"]


def locked_mnt_ns_file(scratch: Path) -> Path:
    """Make a tree with a mount namespace's file that is locked in place.

    A detached mount made here, and handed to a user namespace that attaches a tree to it: mounts
    that come from another user namespace are locked together. (unshare(2) and propagation leave
    such files out, so that they leave none locked.)
    """
    detached = fresh_tmpfs()

    def attach_from_another_user_namespace() -> None:
        enter_new_userns()
        enter_new_mount_ns()
        top = tmpfs(scratch / "top", "file")
        write(top / "mnt", "secret")
        bind_new_mnt_ns(scratch, top / "mnt")
        tree = clone(top, recursive=True)
        move_mount(tree, "", detached, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

    in_child(attach_from_another_user_namespace)
    place = scratch / "place"
    place.mkdir()
    attach(detached, place)
    return place


@pytest.mark.rule("C9")
@pytest.mark.needs("user namespace")
@fixes.KEEP_LOCK_OF_FILES
def test_locked_mount_namespace_file(caller: Caller, scratch: Path) -> None:
    """A locked child that would be left out holds the whole copy up: EPERM with AT_RECURSIVE,
    EINVAL without, and nothing changes."""
    place = locked_mnt_ns_file(scratch)
    before = mount_table()
    assert [m.mnt_point for m in before if is_mnt_ns_file(m)] == [f"{place}/mnt"]
    caller.act()

    fails(errno.EPERM, copy, place, recursive=True)
    fails(errno.EINVAL, copy, place)

    assert mount_table() == before


@pytest.mark.rule("C10")
@pytest.mark.needs("user namespace")
@pytest.mark.finding("A foreign caller's copy uncovers what a mount namespace's file covers")
def test_mount_namespace_file_keeps_its_place_covered(scratch: Path) -> None:
    """What an unlocked bind of a mount namespace's file covers cannot be read in a foreign
    caller's copy, since it cannot be read through the source's path.

    unshare(CLONE_NEWUSER | CLONE_NEWNS) uncovers it, too, but create_new_namespace() says that
    nothing mounted below may be left out for such a caller.
    """
    top = tmpfs(scratch / "top", "seen")
    write(top / "covered", "secret")
    bind_new_mnt_ns(scratch, top / "covered")
    assert readable(top) == {"seen": "seen"}
    Caller.FOREIGN.act()

    fd = copy(top, recursive=True)

    enter(fd)
    assert readable("/") == {"seen": "seen"}
