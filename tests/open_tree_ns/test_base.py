# SPDX-License-Identifier: GPL-2.0-only
"""The base below a new namespace's mounts, once one stands on it: nothing can be done there."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.model.prediction import base_of
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs
from tests.utils.tasks.process import started
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_BIND,
    MS_RDONLY,
    MS_REMOUNT,
    MS_STRICTATIME,
)
from tests.utils.uapi.fuse import SIZE, SlowFile
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import attach, mount, umount2

#: To get at the base the top must go, which it may where the caller's own root is not locked.
ON_BASE = pytest.mark.usefixtures("unlocked")


def enter_emptied_namespace() -> int:
    """Make a namespace, detach its top, stand on its base, and return its descriptor."""
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
def test_base_is_bound_nowhere() -> None:
    """The base cannot be bind-mounted to another place: EINVAL."""
    fd = enter_emptied_namespace()
    base, tree = os.open("/", os.O_PATH), fresh_tmpfs()
    os.mkdir("place", dir_fd=tree)
    attach(tree, "/")
    enter(fd)
    before = mount_table()

    os.fchdir(base)
    end = outcome(mount, ".", "/place", None, MS_BIND)

    assert end == "EINVAL"
    assert mount_table() == before


@pytest.mark.rule("Y7")
@ON_BASE
@fixes.RECONFIGURED_NULLFS
@pytest.mark.needs("root")  # others are refused with EPERM before nullfs is asked
@pytest.mark.upstream("internal_sb_reconfigure.nullfs_root")
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
@pytest.mark.needs("file locks")
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
@pytest.mark.upstream("nullfs_atime_test.empty_mntns_root_atime")
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


@pytest.mark.needs("FUSE")
@pytest.mark.rule("BK7")
@fixes.NULLFS_READERS
@pytest.mark.usefixtures("unlocked")
@pytest.mark.upstream("root_readdir_test.readdir_blocks_nobody")
def test_reader_of_the_base_blocks_nobody(scratch: Path) -> None:
    """A task that lists the base and is stuck in the page fault of its buffer keeps nobody from
    making and entering namespaces, though all of them have the one directory of nullfs."""
    leaf = tmpfs(scratch / "leaf")
    slow = SlowFile(scratch / "slow")

    def list_the_base() -> int:
        slow.close()  # only the case serves it
        page = mmap.mmap(os.open(scratch / "slow", os.O_RDWR), SIZE, flags=mmap.MAP_PRIVATE)
        fd = copy(leaf)
        enter(fd)
        umount2("/", MNT_DETACH)
        enter(fd)
        base = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        buffer = (ctypes.c_char * SIZE).from_buffer(page)
        return int(ctypes.CDLL(None, use_errno=True).getdents64(base, buffer, SIZE))

    def make_and_enter() -> list[str]:
        slow.close()
        enter(copy(leaf))
        return [mount.fs_type for mount in mount_table()]

    with started(list_the_base) as reader:
        try:
            assert slow.serve_until_read(20), "the reader never touched its buffer"
            with started(make_and_enter) as maker:
                seen = {"made in time": maker.finished(10), "still read": not reader.finished(0)}
                slow.release()
                made = maker.result()
        finally:
            slow.release()
            slow.close()  # what else the reader asks for as it ends is refused
        listed = reader.result()
    assert seen == {"made in time": True, "still read": True}
    assert (made, listed) == (["tmpfs"], 48)  # "." and "..", 24 bytes each
