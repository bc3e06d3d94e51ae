# SPDX-License-Identifier: GPL-2.0-only
"""The flag on every kind of directory: what is made, what entering it gives, what lies beneath.

Re-expresses the fixture ``open_tree_ns`` of the kernel's selftests: seven variants, three tests.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MS_PRIVATE,
    NULL_FS_MAGIC,
    OPEN_TREE_CLOEXEC,
)
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info, ns_get_nstype, ns_get_userns, ns_id
from tests.utils.uapi.nsfs import ns_inode as inode
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import open_tree


def real_root(scratch: Path) -> Path:
    """Return the machine's own root, with whatever is mounted below it."""
    return Path("/")


def subdirectory(scratch: Path) -> Path:
    """Make a directory inside a mount, with a mount below it and another beside it."""
    top = tmpfs(scratch / "top", "top.txt")
    write(top / "inner" / "inner.txt")
    tmpfs(top / "inner" / "below")
    tmpfs(top / "beside")
    return top / "inner"


def proc(scratch: Path) -> Path:
    """Mount a pseudo file system."""
    return bind(Path("/proc"), scratch / "proc")


def flat_tree(scratch: Path) -> Path:
    """Make a mount with several on it, one of them the bind mount of a sub-directory."""
    top = tmpfs(scratch / "top", "top.txt", "dir/file.txt")
    for name in ("a", "b", "c"):
        tmpfs(top / name, f"{name}.txt")
    bind(top / "dir", top / "bound")
    return top


def deep_tree(scratch: Path) -> Path:
    """Make mounts on mounts, of several file systems, and one mounted over another."""
    top = tmpfs(scratch / "top")
    level = top
    for name in ("one", "two", "three", "four"):
        level = tmpfs(level / name, f"{name}.txt")
    bind(Path("/proc"), top / "one" / "proc")
    tmpfs(top / "one" / "two", "covers.txt")
    return top


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of the upstream fixture: what to copy, and whether recursively."""

    build: Callable[[Path], Path]
    recursive: bool


VARIANTS = {
    "basic_root": Variant(real_root, recursive=False),
    "recursive_root": Variant(real_root, recursive=True),
    "subdir_tmp": Variant(subdirectory, recursive=False),
    "subdir_proc": Variant(proc, recursive=False),
    "recursive_tmp": Variant(flat_tree, recursive=True),
    "recursive_run": Variant(deep_tree, recursive=True),
}


def each_variant(test: str) -> pytest.MarkDecorator:
    """Parametrise over the six variants that must succeed."""
    return pytest.mark.parametrize(
        "variant",
        [
            pytest.param(
                variant,
                id=name,
                marks=[
                    pytest.mark.upstream(f"open_tree_ns.{name}.{test}"),
                    # Below a user namespace's "/" everything is locked: K5 refuses to leave it out.
                    *([pytest.mark.needs("root")] if name == "basic_root" else []),
                ],
            )
            for name, variant in VARIANTS.items()
        ],
    )


@pytest.mark.rule("C1", "C2", "C3", "R3", "U2")
@each_variant("create_namespace")
def test_create_namespace(variant: Variant, scratch: Path) -> None:
    """The call returns a new mount namespace, owned by the caller, that holds exactly the copy."""
    path = variant.build(scratch)
    expected = predict_copy(path, recursive=variant.recursive)
    before = mount_table()

    fd = copy(path, recursive=variant.recursive)

    assert ns_get_nstype(fd) == CLONE_NEWNS
    assert ns_id(fd) > ns_id(current_mnt_ns())
    assert inode(ns_get_userns(fd)) == inode("/proc/self/ns/user")
    assert not os.get_inheritable(fd)
    assert namespace_tree(fd).lines() == expected.lines()
    assert mount_table() == before


@pytest.mark.rule("N1")
@each_variant("setns_into_namespace")
def test_setns_into_namespace(variant: Variant, scratch: Path) -> None:
    """Entering the namespace makes the top of the copy both root and working directory."""
    path = variant.build(scratch)
    expected = predict_copy(path, recursive=variant.recursive)
    directory = inode(str(path))

    fd = copy(path, recursive=variant.recursive)
    top = listmount(ns_fd=fd)[0]
    names = sorted(os.listdir(path))
    keep_proc = os.open("/proc/self/ns", os.O_PATH | os.O_DIRECTORY)
    enter(fd)

    assert os.stat("mnt", dir_fd=keep_proc).st_ino == os.fstat(fd).st_ino
    assert (mnt_id_of("/"), inode("/")) == (top, directory)
    assert (mnt_id_of("."), inode(".")) == (top, directory)
    assert sorted(os.listdir("/")) == names
    assert namespace_tree(fd).lines() == expected.lines()
    assert [mount.mnt_id for mount in mount_table()] == listmount(ns_fd=fd)


@pytest.mark.rule("Y1", "Y2", "Y3", "R4")
@each_variant("verify_mount_properties")
def test_verify_mount_properties(variant: Variant, scratch: Path) -> None:
    """The top of the copy is mounted on "/" of a hidden, empty, private base of nullfs."""
    path = variant.build(scratch)

    fd = copy(path, recursive=variant.recursive)

    top = mount_table(ns_fd=fd)[0]
    base = base_of(fd)
    assert top.mnt_point == "/"
    assert top.mnt_parent_id == base.mnt_id != top.mnt_id
    assert base.mnt_parent_id == base.mnt_id
    assert (base.fs_type, base.sb_magic, base.mnt_root) == ("nullfs", NULL_FS_MAGIC, "/")
    assert base.mnt_point is None
    assert base.mnt_propagation == MS_PRIVATE
    assert base.mnt_ns_id == ns_id(fd)
    listed = listmount(ns_fd=fd)
    assert base.mnt_id not in listed
    assert base.mnt_id < top.mnt_id == min(listed)
    assert mnt_get_info(fd).nr_mounts == len(listed)


def ask_for_recursion_alone() -> None:
    """Make a call with AT_RECURSIVE and neither CLONE nor NAMESPACE, which must fail."""
    fails(errno.EINVAL, open_tree, AT_FDCWD, "/", AT_RECURSIVE | OPEN_TREE_CLOEXEC)


@pytest.mark.rule("F4")
@pytest.mark.upstream("open_tree_ns.invalid_recursive_alone.create_namespace")
def test_invalid_recursive_alone_creates_nothing() -> None:
    """AT_RECURSIVE without CLONE or NAMESPACE is EINVAL, and no descriptor comes to be."""
    before = os.listdir("/proc/self/fd")
    ask_for_recursion_alone()
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.rule("F4")
@pytest.mark.upstream("open_tree_ns.invalid_recursive_alone.setns_into_namespace")
def test_invalid_recursive_alone_moves_nobody() -> None:
    """After the refused call the caller's namespace, root and working directory are its own."""

    def place() -> tuple[object, ...]:
        return ns_id(current_mnt_ns()), mnt_id_of("/"), inode("/"), mnt_id_of("."), inode(".")

    before = place()
    ask_for_recursion_alone()
    assert place() == before


@pytest.mark.rule("F4")
@pytest.mark.upstream("open_tree_ns.invalid_recursive_alone.verify_mount_properties")
def test_invalid_recursive_alone_changes_no_mount() -> None:
    """After the refused call every mount of the caller is as it was."""
    before = mount_table()
    ask_for_recursion_alone()
    assert mount_table() == before
