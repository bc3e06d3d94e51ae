# SPDX-License-Identifier: GPL-2.0-only
"""The limits a call can run into, each set for the calling process or its user namespace only, but
for fs.mount-max, which there is once."""

from __future__ import annotations

import errno
import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.utils.mounts.settle import gone, settled
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import AT_FDCWD, OPEN_TREE_NAMESPACE
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.syscalls import open_tree

#: Belongs to the user namespace of whoever opens it: a case sets it in one of its own.
MAX_MNT_NAMESPACES = Path("/proc/sys/user/max_mnt_namespaces")

#: The machine's own.
_MOUNT_MAX = Path("/proc/sys/fs/mount-max")
#: A name that one socket of the machine has at a time: whose it is may change fs.mount-max.
_TURN = "\0open-tree-namespace-tests: fs.mount-max"
#: How long others, who have it one after the other, may keep it, in seconds.
_TURN_TIMEOUT = 30.0


def open_limit() -> int:
    """Return a descriptor to set the limit of the caller's user namespace by, where /proc is no
    more."""
    return os.open(MAX_MNT_NAMESPACES, os.O_WRONLY | os.O_CLOEXEC)


def allow_mnt_namespaces(count: int, limit_fd: int = -1) -> None:
    """Set user.max_mnt_namespaces of the caller's user namespace (or of *limit_fd*'s)."""
    fd = open_limit() if limit_fd < 0 else limit_fd
    os.pwrite(fd, str(count).encode(), 0)
    if limit_fd < 0:
        os.close(fd)


@contextmanager
def mount_max() -> Iterator[Callable[[int], object]]:
    """Yield what sets fs.mount-max for all mount namespaces there are; afterwards it is as before.

    It is the caller's alone meanwhile: another run of the suite waits, and does not lower it while
    the caller makes its mounts.

    :raises OSError: EADDRINUSE: others have kept it for too long.
    """
    with socket.socket(socket.AF_UNIX) as turn, _MOUNT_MAX.open("r+b", buffering=0) as sysctl:
        until = time.monotonic() + _TURN_TIMEOUT
        while True:
            try:
                turn.bind(_TURN)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                    raise
            time.sleep(0.01)
        usual = os.pread(sysctl.fileno(), 32, 0)
        try:
            yield lambda count: os.pwrite(sysctl.fileno(), str(count).encode(), 0)
        finally:
            os.pwrite(sysctl.fileno(), usual, 0)


@contextmanager
def descriptor_table_full() -> Iterator[None]:
    """No descriptor can be opened during the block; those that are open stay so."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def enter_counted_userns() -> int:
    """Enter a new user namespace and a mount namespace of its own; return what that counts."""
    enter_new_userns()
    enter_new_mount_ns()
    return 1


def count_until_enospc(directory: Path, most: int = 100) -> int:
    """Return how many copies of *directory* can be had at once until ENOSPC. They are gone
    afterwards."""
    fds: list[int] = []
    try:
        while len(fds) < most:
            fds.append(open_tree(AT_FDCWD, directory, OPEN_TREE_NAMESPACE))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    numbers = [ns_id(fd) for fd in fds]
    for fd in fds:
        os.close(fd)
    # Else what follows may lack the room they had.
    gone(*numbers)
    return len(fds)


def room_for(directory: Path, count: int) -> int:
    """Return how many copies of *directory* can be had at once, for a case that expects *count*:
    fewer are counted again for a while, since others may hold what is gone already."""
    return settled(partial(count_until_enospc, directory), count)
