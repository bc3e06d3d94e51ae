# SPDX-License-Identifier: GPL-2.0-only
"""A task that enters and leaves mount namespaces at the case's word: a thread, hence no fork.

Its home is a mount namespace of its own, a copy of the case's and as such counted, to which the
task of a foreign caller can come back. A process with a second thread can no longer enter a new
user namespace: change sides first.
"""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from tests.utils.uapi.constants import CLONE_NEWNS
from tests.utils.uapi.syscalls import setns, unshare

T = TypeVar("T")

#: pidfd_open(2) of a single task (linux/pidfd.h, since 6.9).
PIDFD_THREAD = os.O_EXCL


class NamespaceThread:
    """The task; as a context manager it ends with the block."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[object, BaseException | None]] = queue.SimpleQueue()
        self._home = -1
        self._task = -1
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> NamespaceThread:
        self._thread.start()
        self._task = os.pidfd_open(self._thread.native_id or 0, PIDFD_THREAD)
        self.run(lambda: unshare(CLONE_NEWNS))
        self._home = self.run(lambda: self.open_own_proc_file("ns/mnt"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._orders.put(None)
        self._thread.join()
        # Python's thread has ended; its task holds the namespace until it has left the kernel too.
        gone = select.poll()
        gone.register(self._task, select.POLLIN)
        gone.poll()
        os.close(self._task)
        os.close(self._home)
        os.close(self._proc)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            order()

    def run(self, function: Callable[[], T]) -> T:
        """Have the task call *function*; return its result, or raise what it raised."""

        def order() -> None:
            try:
                self._done.put((function(), None))
            except BaseException as error:
                self._done.put((None, error))

        self._orders.put(order)
        result, error = self._done.get()
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def enter(self, ns_fd: int) -> None:
        """Move the task into the mount namespace *ns_fd*."""
        self.run(lambda: setns(ns_fd, CLONE_NEWNS))

    def leave(self) -> None:
        """Move the task back to its home."""
        self.enter(self._home)

    def call_in(self, ns_fd: int, function: Callable[[], T]) -> T:
        """Call *function* in the mount namespace *ns_fd*, come back, and return its result."""
        self.enter(ns_fd)
        try:
            return self.run(function)
        finally:
            self.leave()

    def open_own_proc_file(self, name: str) -> int:
        """Open ``/proc/PID/task/TID/name`` of the task, wherever it is (to be called by it)."""
        return os.open(f"thread-self/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
