# SPDX-License-Identifier: GPL-2.0-only
"""Who may make a namespace, who owns it, and who may enter it."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.utils.caps import CAP_SYS_ADMIN, drop, keep_only
from tests.utils.constants import AT_FDCWD, CLONE_NEWNS, OPEN_TREE_CLOEXEC, OPEN_TREE_NAMESPACE
from tests.utils.expect import refused
from tests.utils.model import namespace_tree, predict_copy
from tests.utils.mounts import listmount, mnt_id_of
from tests.utils.nsfs import ns_get_userns
from tests.utils.nsfs import ns_inode as inode
from tests.utils.syscalls import open_tree, setns
from tests.utils.trees import tmpfs
from tests.utils.userns import become_foreign

FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
OTHER_USERNS = pytest.mark.needs("user namespace")


@OTHER_USERNS
@pytest.mark.upstream("open_tree_ns_caps.requires_cap_sys_admin")
def test_requires_cap_sys_admin(scratch: Path) -> None:
    """All capabilities but CAP_SYS_ADMIN in the caller's user namespace: EPERM."""
    leaf = tmpfs(scratch / "leaf")
    become_foreign()

    drop(CAP_SYS_ADMIN)

    with refused(errno.EPERM):
        open_tree(AT_FDCWD, leaf, FLAGS)


@OTHER_USERNS
def test_cap_sys_admin_is_enough(scratch: Path) -> None:
    """CAP_SYS_ADMIN in the caller's user namespace, and no other capability, is enough."""
    leaf = tmpfs(scratch / "leaf")
    expected = predict_copy(leaf, recursive=False, foreign=True)
    become_foreign()

    keep_only(CAP_SYS_ADMIN)
    fd = open_tree(AT_FDCWD, leaf, FLAGS)

    assert namespace_tree(fd).lines() == expected.lines()


@OTHER_USERNS
@pytest.mark.upstream("open_tree_ns_userns.create_in_userns")
def test_create_in_userns(scratch: Path) -> None:
    """A caller that does not own its mount namespace may copy a directory with nothing below it;
    the new namespace belongs to the caller's user namespace."""
    leaf = tmpfs(scratch / "leaf", "leaf.txt")
    expected = predict_copy(leaf, recursive=False, foreign=True)
    owner_of_source = inode("/proc/self/ns/user")
    become_foreign()

    fd = open_tree(AT_FDCWD, leaf, FLAGS)

    owner = inode(ns_get_userns(fd))
    assert owner == inode("/proc/self/ns/user") != owner_of_source
    assert namespace_tree(fd).lines() == expected.lines()


@OTHER_USERNS
@pytest.mark.upstream("open_tree_ns_userns.setns_in_userns")
def test_setns_in_userns(scratch: Path) -> None:
    """The foreign caller enters the namespace it made, and finds the copy as its root."""
    leaf = tmpfs(scratch / "leaf", "leaf.txt")
    directory = inode(str(leaf))
    become_foreign()

    fd = open_tree(AT_FDCWD, leaf, FLAGS)
    top = listmount(ns_fd=fd)[0]
    setns(fd, CLONE_NEWNS)

    assert (mnt_id_of("/"), inode("/")) == (top, directory)
    assert (mnt_id_of("."), inode(".")) == (top, directory)
    assert Path("/leaf.txt").read_text() == "leaf.txt"
