# SPDX-License-Identifier: GPL-2.0-only
"""All that can hold a mount namespace: taken and let go, for the cases on its lifetime."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.utils.mounts.trees import write
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MS_BIND,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.uapi.nsfs import (
    NS_MNT_GET_NEXT,
    NS_MNT_GET_PREV,
    current_mnt_ns,
    mnt_get_neighbour,
    ns_id,
)
from tests.utils.uapi.syscalls import mount, open_tree, umount2

FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC


def closing(fd: int) -> Callable[[], None]:
    """Return what closes *fd*."""
    return partial(os.close, fd)


class Holds:
    """The ways to hold a namespace. Each is a method that takes the handle."""

    def __init__(self, thread: NamespaceThread, targets: Path) -> None:
        self._thread = thread
        self._target = write(targets / "target")
        #: A namespace older than any that is held.
        self._before = current_mnt_ns()

    def duplicate(self, fd: int) -> Callable[[], None]:
        """Duplicate the descriptor."""
        return closing(os.dup(fd))

    def reopened(self, fd: int) -> Callable[[], None]:
        """Another open file of the namespace."""
        return closing(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY))

    def path_only(self, fd: int) -> Callable[[], None]:
        """Open its file with O_PATH."""
        return closing(os.open(f"/proc/self/fd/{fd}", os.O_PATH))

    def message(self, fd: int) -> Callable[[], None]:
        """Send a descriptor in a message that nobody has received yet."""
        ours, theirs = socket.socketpair()
        socket.send_fds(ours, [b"handle"], [fd])
        ours.close()
        return theirs.close

    def task(self, fd: int) -> Callable[[], None]:
        """Start a task inside."""
        self._thread.enter(fd)
        return self._thread.leave

    def mountinfo(self, fd: int) -> Callable[[], None]:
        """Open /proc/PID/mountinfo of a task that was inside and has left."""
        return closing(
            self._thread.call_in(fd, lambda: self._thread.open_own_proc_file("mountinfo"))
        )

    def namespace_file(self, fd: int) -> Callable[[], None]:
        """Open /proc/PID/ns/mnt of a task that was inside and has left."""
        return closing(self._thread.call_in(fd, lambda: self._thread.open_own_proc_file("ns/mnt")))

    def bind_mount(self, fd: int) -> Callable[[], None]:
        """Bind-mount the handle."""
        mount(f"/proc/self/fd/{fd}", self._target, None, MS_BIND)
        return partial(umount2, self._target)

    def detached_mount(self, fd: int) -> Callable[[], None]:
        """Make a mount of the handle that is attached nowhere."""
        return closing(open_tree(AT_FDCWD, f"/proc/self/fd/{fd}", OPEN_TREE_CLONE))

    def next_neighbour(self, fd: int) -> Callable[[], None]:
        """Return what NS_MNT_GET_NEXT gave."""
        return closing(neighbour(ns_id(fd), NS_MNT_GET_NEXT, self._before))

    def previous_neighbour(self, fd: int) -> Callable[[], None]:
        """Return what NS_MNT_GET_PREV gave."""
        after = open_tree(AT_FDCWD, self._target.parent, FLAGS)
        try:
            return closing(neighbour(ns_id(fd), NS_MNT_GET_PREV, after))
        finally:
            os.close(after)


def neighbour(number: int, request: int, start: int) -> int:
    """Return the namespace with this id, reached from *start* step by step."""
    step, info = mnt_get_neighbour(start, request)
    while info.mnt_ns_id != number:
        beyond, info = mnt_get_neighbour(step, request)
        os.close(step)
        step = beyond
    return step


#: What every caller can hold a namespace by, and what takes power over one's own mounts.
FOR_ALL = (
    Holds.duplicate,
    Holds.reopened,
    Holds.path_only,
    Holds.message,
    Holds.task,
    Holds.mountinfo,
    Holds.namespace_file,
)
FOR_OWNERS = (Holds.bind_mount, Holds.detached_mount)
Kind = Callable[[Holds, int], Callable[[], None]]
