# SPDX-License-Identifier: GPL-2.0-only
"""The base below a new namespace's mounts, once one stands on it: nothing can be done there."""

from __future__ import annotations

import fcntl
import os

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.constants import (
    MNT_DETACH,
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    MS_STRICTATIME,
)
from tests.utils.expect import outcome
from tests.utils.model import base_of
from tests.utils.mounts import mnt_id_of, statmount
from tests.utils.syscalls import (
    mount,
    umount2,
)
from tests.utils.trees import fresh_tmpfs

#: To get at the base the top must go, which it may where the caller's own root is not locked.
ON_BASE = pytest.mark.usefixtures("unlocked")


def enter_emptied_namespace() -> int:
    """Become a task in a namespace made by the flag whose top is detached: on its base."""
    fd = copy("", dirfd=fresh_tmpfs())
    base = base_of(fd).mnt_id
    enter(fd)
    umount2("/", MNT_DETACH)
    enter(fd)
    here = statmount(mnt_id_of("/"))
    assert (here.mnt_id, here.fs_type) == (base, "nullfs")
    return fd


@pytest.mark.rule("Y7")
@ON_BASE
def test_base_is_empty_and_takes_nothing() -> None:
    """Nothing is on the base, nothing can be made there, nothing about it can be changed."""
    enter_emptied_namespace()
    before = os.stat("/")

    got = {
        "mkdir": outcome(os.mkdir, "/x"),
        "creat": outcome(os.open, "/x", os.O_CREAT | os.O_WRONLY),
        "symlink": outcome(os.symlink, "x", "/y"),
        "unnamed file": outcome(os.open, "/", os.O_TMPFILE | os.O_WRONLY),
        "chmod": outcome(os.chmod, "/", 0o777),
        "chown": outcome(os.chown, "/", 0, 0),
        "utime": outcome(os.utime, "/", (1, 1)),
        "setxattr": outcome(os.setxattr, "/", "user.x", b"x"),
    }

    assert got == {
        "mkdir": "ENOENT",
        "creat": "ENOENT",
        "symlink": "ENOENT",
        "unnamed file": "EPERM",
        "chmod": "EPERM",
        "chown": "EPERM",
        "utime": "EPERM",
        "setxattr": "EPERM",
    }
    after = os.stat("/")
    assert (after.st_mode, after.st_uid, after.st_gid) == (0o40555, before.st_uid, before.st_gid)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert os.listdir("/") == []


@pytest.mark.rule("Y7")
@ON_BASE
@fixes.RECONFIGURED_NULLFS
@pytest.mark.needs("root")  # others are refused with EPERM before nullfs is asked
def test_base_cannot_be_reconfigured() -> None:
    """nullfs is one for the whole machine: remounting it, and unmounting "/" (which remounts it
    read-only), is EINVAL."""
    enter_emptied_namespace()
    before = statmount(mnt_id_of("/"))

    got = {
        "remount": outcome(mount, None, "/", None, MS_REMOUNT | MS_RDONLY),
        "umount": outcome(umount2, "/"),
        "detach": outcome(umount2, "/", MNT_DETACH),
    }

    after = statmount(mnt_id_of("/"))
    if after.sb_flags != before.sb_flags:  # a kernel without the fix: leave nullfs as it was
        mount(None, "/", None, MS_REMOUNT)
    assert got == {"remount": "EINVAL", "umount": "EINVAL", "detach": "EINVAL"}
    assert after == before


@pytest.mark.rule("Y7")
@ON_BASE
@fixes.NULLFS_FILE_LOCKS
def test_base_takes_no_file_lock() -> None:
    """The one inode of nullfs carries no locks, on which containers could meet: ENOLCK."""
    enter_emptied_namespace()
    root = os.open("/", os.O_RDONLY)

    got = {
        "flock": outcome(fcntl.flock, root, fcntl.LOCK_SH | fcntl.LOCK_NB),
        "record lock": outcome(fcntl.lockf, root, fcntl.LOCK_SH | fcntl.LOCK_NB),
    }

    assert got == {"flock": "ENOLCK", "record lock": "ENOLCK"}


@pytest.mark.rule("Y7")
@ON_BASE
@fixes.NULLFS_ATIME
def test_base_keeps_its_times() -> None:
    """Reading the base leaves no trace, even where the mount asks for one (strictatime)."""
    enter_emptied_namespace()
    mount(None, "/", None, MS_REMOUNT | MS_BIND | MS_STRICTATIME)
    before = os.stat("/")

    os.listdir("/")
    os.listdir("/")

    after = os.stat("/")
    assert (after.st_atime_ns, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_atime_ns,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )
