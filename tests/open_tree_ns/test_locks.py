# SPDX-License-Identifier: GPL-2.0-only
"""What may be taken apart again: mounts locked together in a foreign copy, free in an owner's."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.utils.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_REC,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.expect import refused
from tests.utils.mounts import listmount, mount_table, statmount
from tests.utils.syscalls import mount, open_tree, setns, umount2
from tests.utils.trees import tmpfs
from tests.utils.userns import become_foreign

FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_RECURSIVE


def nested_tree(scratch: Path) -> Path:
    """Mounts side by side and on each other."""
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "a", "a.txt")
    tmpfs(top / "a" / "inner", "inner.txt")
    tmpfs(top / "b", "b.txt")
    return top


@pytest.mark.needs("user namespace")
@pytest.mark.upstream("open_tree_ns_userns.umount_fails_einval")
def test_umount_fails_einval(scratch: Path) -> None:
    """In a foreign caller's copy no mount can be detached, neither the top nor any child."""
    top = nested_tree(scratch)
    become_foreign()
    setns(open_tree(AT_FDCWD, top, FLAGS), CLONE_NEWNS)
    before = mount_table()
    assert [mount.mnt_point for mount in before] == ["/", "/a", "/a/inner", "/b"]

    for mounted in reversed(before):
        with refused(errno.EINVAL):
            umount2(mounted.mnt_point, MNT_DETACH)

    assert mount_table() == before


@pytest.mark.rule("K4")
@pytest.mark.upstream("open_tree_ns_userns.umount_succeeds")
@pytest.mark.usefixtures("unlocked")
def test_umount_succeeds(scratch: Path) -> None:
    """In an owner's copy every mount can be detached, the top too; empty nullfs is what remains,
    and the source keeps all its mounts."""
    top = nested_tree(scratch)
    source = mount_table()
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    fd = open_tree(AT_FDCWD, top, FLAGS)
    base = statmount(listmount(ns_fd=fd)[0], ns_fd=fd).mnt_parent_id
    setns(fd, CLONE_NEWNS)
    mount(None, "/", None, MS_SLAVE | MS_REC)

    mounted = mount_table()
    for child in reversed(mounted):
        umount2(child.mnt_point, MNT_DETACH)
        gone = mounted.pop()
        if gone.mnt_point != "/":
            assert mount_table() == mounted

    setns(fd, CLONE_NEWNS)
    remains = statmount(base)
    assert [mount.mnt_id for mount in mount_table()] == [base]
    assert (remains.fs_type, os.listdir("/")) == ("nullfs", [])
    setns(here, CLONE_NEWNS)
    assert mount_table() == source
