# SPDX-License-Identifier: GPL-2.0-only
"""The one inode and the one superblock of nullfs, which all bases of the machine have in common:
what is done there in one namespace must not be seen, or felt, in another."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.uapi.constants import AT_FDCWD, F_SET_RW_HINT, F_SETDELEG, MNT_DETACH
from tests.utils.uapi.dnotify import dnotify_watch
from tests.utils.uapi.fanotify import fanotify_open_watch
from tests.utils.uapi.inotify import inotify_watch
from tests.utils.uapi.syscalls import fspick, umount2

#: To get at the base the top must go, which it may where the caller's own root is not locked.
pytestmark = pytest.mark.usefixtures("unlocked")


def fcntl_set_rw_hint(fd: int, hint: int) -> None:
    """fcntl(F_SET_RW_HINT): say how long what is written to the file will be kept."""
    fcntl.fcntl(fd, F_SET_RW_HINT, struct.pack("=Q", hint))


def fcntl_setdeleg(fd: int) -> None:
    """fcntl(F_SETDELEG): hear of changes to a directory before they are made."""
    fcntl.fcntl(fd, F_SETDELEG, struct.pack("=IHH", 0, fcntl.F_RDLCK, 0))


def fcntl_setlease(fd: int) -> None:
    """fcntl(F_SETLEASE): hear of others that open the file before they do."""
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)


def stand_on_the_base() -> int:
    """Make a namespace, detach its top, enter again, and return a descriptor of "/", the base."""
    fd = copy("", dirfd=fresh_tmpfs())
    enter(fd)
    umount2("/", MNT_DETACH)
    enter(fd)
    assert os.listdir("/") == []
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY)


@pytest.mark.rule("Y9")
@fixes.PICKED_NULLFS
def test_no_context_to_reconfigure_the_base() -> None:
    """fspick(2) gives no context in which the one superblock could be reconfigured: EINVAL."""
    stand_on_the_base()

    fails(errno.EINVAL, fspick, AT_FDCWD, "/")


@pytest.mark.rule("Y9")
@fixes.NULLFS_RW_HINT
@pytest.mark.upstream("rw_hint_test.empty_mntns_root")
def test_base_takes_no_write_hint() -> None:
    """F_SET_RW_HINT writes no hint to the inode of nullfs, whatever it is: EPERM, for root too."""
    base = stand_on_the_base()

    got = {hint: outcome(fcntl_set_rw_hint, base, hint) for hint in range(6)}

    assert got == dict.fromkeys(range(6), "EPERM")


@pytest.mark.rule("Y9")
@pytest.mark.needs("root")  # others are refused with EACCES, since the inode is not theirs
def test_base_takes_no_lease() -> None:
    """The inode of nullfs carries no lease and no delegation, which others would wait for."""
    base = stand_on_the_base()

    got = {
        "lease": outcome(fcntl_setlease, base),
        "delegation": outcome(fcntl_setdeleg, base),
    }

    assert got == {"lease": "EINVAL", "delegation": "EINVAL"}


@pytest.mark.rule("Y10")
@fixes.NULLFS_MARKS
@pytest.mark.parametrize(
    "watch",
    [
        pytest.param(inotify_watch, id="inotify", marks=pytest.mark.needs("inotify")),
        pytest.param(dnotify_watch, id="dnotify", marks=pytest.mark.needs("dnotify")),
    ],
)
def test_base_cannot_be_watched(scratch: Path, watch: Callable[[str], object]) -> None:
    """inotify and dnotify take no watch on nullfs: EINVAL. It would report what all other
    namespaces do on theirs."""
    os.chdir(scratch)
    assert outcome(watch, ".") == "success"
    stand_on_the_base()

    fails(errno.EINVAL, watch, ".")


@pytest.mark.rule("Y10")
@fixes.NULLFS_MARKS
@pytest.mark.needs("root", "fanotify")  # which takes privilege over the machine here
def test_base_cannot_be_marked(scratch: Path) -> None:
    """fanotify takes no mark on the directory of nullfs either: EINVAL."""
    assert outcome(fanotify_open_watch, scratch) == "success"
    stand_on_the_base()

    fails(errno.EINVAL, fanotify_open_watch, "/")
