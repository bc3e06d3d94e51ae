# SPDX-License-Identifier: GPL-2.0-only
"""The handle as a file: what it refuses that other files take, opened by whatever way."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.mounts.trees import tmpfs
from tests.utils.uapi.constants import F_SET_RW_HINT
from tests.utils.uapi.file_handles import FD_NSFS_ROOT, name_to_handle_at, open_by_handle_at

_AUTOFS_DEV_IOCTL_READY = 0xC0189376  # linux/auto_dev-ioctl.h


@pytest.mark.rule("R1")
@fixes.NULLFS_RW_HINT
@pytest.mark.upstream("rw_hint_test.namespace_file")
def test_handle_takes_no_hint(caller: Caller, scratch: Path) -> None:
    """F_SET_RW_HINT writes no hint to the handle, whose inode is immutable: EPERM."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    fd = copy(leaf)

    fails(errno.EPERM, fcntl.fcntl, fd, F_SET_RW_HINT, struct.pack("=Q", 2))


@pytest.mark.rule("R1")
@pytest.mark.upstream("iterate_mount_namespaces.nfs_valid_ioctl")
def test_handle_takes_no_other_ioctl(scratch: Path) -> None:
    """The handle takes no ioctl(2) of another kind of file: ENOTTY."""
    fd = copy(tmpfs(scratch / "leaf"))

    fails(errno.ENOTTY, fcntl.ioctl, fd, _AUTOFS_DEV_IOCTL_READY, bytes(24))


@pytest.mark.rule("R10")
@pytest.mark.needs("file handles")
@pytest.mark.upstream("file_handle_test.nsfs_open_flags")
def test_open_flags_by_file_handle(scratch: Path) -> None:
    """By its file handle the namespace one is in is opened for reading, and for nothing else."""
    fd = copy(tmpfs(scratch / "leaf"))
    handle = name_to_handle_at(fd)
    enter(fd)
    flags = {
        "reading": os.O_RDONLY,
        "writing": os.O_WRONLY,
        "both": os.O_RDWR,
        "truncating": os.O_TRUNC,
        "direct": os.O_DIRECT,
        "temporary": os.O_TMPFILE,
        "directory": os.O_DIRECTORY,
    }

    found = {
        name: str(outcome(open_by_handle_at, FD_NSFS_ROOT, handle, flag))
        for name, flag in flags.items()
    }

    assert found == {
        "reading": "success",
        "writing": "EPERM",
        "both": "EPERM",
        "truncating": "EPERM",
        "direct": "EINVAL",
        "temporary": "EINVAL",
        "directory": "ENOTDIR",
    }
