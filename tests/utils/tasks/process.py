# SPDX-License-Identifier: GPL-2.0-only
"""A second process inside a case: to ask something of it, or to have it hold something.

A case already runs in a process of its own, so most change their credentials or namespaces in
place. These helpers are for what takes two: another user namespace that must not stick, or a task
that sits in a namespace while the case looks at it from outside.
"""

from __future__ import annotations

import _thread
import ctypes
import mmap
import os
import pickle
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar
from warnings import catch_warnings, simplefilter

from tests.utils.diagnosis import deviation_of
from tests.utils.uapi.constants import CLONE_FS
from tests.utils.uapi.syscalls import prctl, syscall

T = TypeVar("T")

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

#: What both processes call after each :func:`fork` (see :mod:`tests.utils.isolation.prefault`).
after_fork: list[Callable[[], object]] = []

# With the interpreter's lock held: no other thread of Python may run between this and its return.
_fork = ctypes.PyDLL(None, use_errno=True).fork


def fork() -> int:
    """fork(2) without what Python does about it, where there is nothing to do.

    With other threads it is os.fork(), less the warning of Python 3.12 and newer that there are
    some: under xdist one always is (execnet's receiver), and it holds no lock our children take.

    os.fork() makes new locks, forgets threads and seeds ``random`` anew, which is of no use to a
    process without other threads, whose locks are free; nor is what was registered with
    os.register_at_fork(). It takes a tenth of a run under User-Mode Linux (measured by
    ``python3 -m vm run --kernel LINUX --guests 1``, in turns) and a thirtieth under QEMU.

    :returns: 0 in the child, in the parent the child's PID.
    :raises OSError: fork(2) failed.
    """
    if _thread._count():
        with catch_warnings():
            simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    else:
        pid = int(_fork())
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    for function in after_fork:
        function()
    return pid


def ended(pidfd: int, seconds: float) -> bool:
    """Return whether the process of *pidfd* ends within *seconds*."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def parents(proc: int) -> dict[int, int]:
    """Return the parent's PID of each process that *proc*, a descriptor of a /proc, shows."""
    found = {}
    for name in os.listdir(proc):
        if name.isdecimal():
            with suppress(OSError):
                fd = os.open(f"{name}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
                with os.fdopen(fd, "rb") as file:
                    # The command's name may hold anything, a closing parenthesis too.
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return found


def become_subreaper() -> None:
    """Have orphans among the caller's descendants become its children."""
    prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int) -> None:
    """Have the calling process killed when its parent, the process of pidfd *parent*, ends.

    :raises ProcessLookupError: it has ended before that could be arranged.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if ended(parent, 0):
        raise ProcessLookupError(parent)
    os.close(parent)


class ChildError(AssertionError):
    """A child failed (for an error that is no OSError): what it said, and then its traceback."""


class ChildKilled(ChildError):
    """A child was killed before it had a result."""

    def __init__(self, number: int) -> None:
        """*number* is the signal's."""
        #: What killed it.
        self.signal = signal.Signals(number)
        super().__init__(f"the child was killed by {self.signal.name} without a result")


def _exit_with(fd: int, function: Callable[[], object]) -> NoReturn:
    """Run *function* in a forked child, write how it ended to *fd*, and never return."""
    status = 1
    try:
        try:
            payload = pickle.dumps((True, function()))
        except OSError as error:
            what = (error.errno, error.strerror, error.filename)
            payload = pickle.dumps((False, (what, deviation_of(error))))
        except BaseException as error:
            said = "".join(traceback.format_exception_only(error)).strip()
            text = f"{said}\n\nin a child process:\n{traceback.format_exc()}"
            payload = pickle.dumps((False, (text, deviation_of(error))))
        view = memoryview(payload)
        while view:
            view = view[os.write(fd, view) :]
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _outcome(payload: bytes, status: int) -> object:
    if not payload:
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            raise ChildKilled(-code)
        raise ChildError(f"the child exited with {code} without a result")
    fine, value = pickle.loads(payload)
    if fine:
        return value
    said, deviation = value
    error = OSError(*said) if isinstance(said, tuple) else ChildError(said)
    error.deviation = deviation  # type: ignore[union-attr]  # see tests.utils.diagnosis
    raise error


def in_child(function: Callable[[], T]) -> T:
    """Run *function* in a forked child and return its result (a picklable value).

    :raises OSError: the child's own, with its errno.
    :raises ChildError: any other exception, with the child's traceback; or an end without result.
    :raises ChildKilled: a signal ended the child before it had a result.
    """
    with started(function) as child:
        return child.result()


@dataclass(slots=True)
class Task(Generic[T]):
    """A child at work. See :func:`started`."""

    pid: int
    _results: int
    _ended: bool = False

    def proc(self, name: str) -> str:
        """Return the path of the child's ``/proc/PID/name``."""
        return f"/proc/{self.pid}/{name}"

    def finished(self, seconds: float) -> bool:
        """Return whether the child is done, waiting for it at most so long."""
        return bool(select.select([self._results], [], [], seconds)[0])

    def result(self) -> T:
        """Wait for the child's end; what its function returned, or raised (see in_child())."""
        with os.fdopen(os.dup(self._results), "rb") as pipe:
            payload = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        self._ended = True
        return _outcome(payload, status)  # type: ignore[return-value]


@contextmanager
def started(function: Callable[[], T]) -> Iterator[Task[T]]:
    """Have a child run *function* while the block goes on. At the end of the block it is killed,
    if it is still there, and reaped."""
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = fork()
    if pid == 0:
        os.close(read_end)
        _exit_with(write_end, function)
    os.close(write_end)
    task: Task[T] = Task(pid, read_end)
    try:
        yield task
    finally:
        os.close(read_end)
        if not task._ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@contextmanager
def holding(function: Callable[[], object]) -> Iterator[Task[None]]:
    """Have a child that runs *function* and then sits still until the block ends.

    What the function raises is raised here (see :func:`in_child`), before the block is entered.
    When the block has ended, the child is dead and reaped.
    """
    ours, theirs = socket.socketpair()

    def stay() -> None:
        ours.close()
        function()
        theirs.send(b"!")
        theirs.recv(1)  # until the caller, or its process, has ended

    with ours, started(stay) as task:
        theirs.close()
        if not ours.recv(1):
            task.result()
        yield task


def shared_numbers(count: int) -> memoryview[int]:
    """So many numbers, 64 bits each and 0 at first, that the caller and the children it starts
    from now on have in common."""
    return memoryview(mmap.mmap(-1, 8 * count)).cast("Q")


@contextmanager
def deferred_call(function: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Have a child, forked now, run *function* when the callable is called: with the credentials
    and in the namespaces the caller has now, wherever the caller goes in the meantime."""
    go_read, go_write = os.pipe()

    def wait_and_run() -> T:
        os.close(go_write)
        os.read(go_read, 1)
        return function()

    with started(wait_and_run) as task:
        os.close(go_read)

        def call() -> T:
            os.write(go_write, b"!")
            return task.result()

        yield call
        os.close(go_write)


_CLONE3 = 435 + (110 if os.uname().machine == "alpha" else 0)


def clone3(flags: int, pidfd: ctypes.c_int | None = None) -> int:
    """clone3(2) of a child with a copy of the caller's memory. Only for a caller without threads.

    :param pidfd: where the child's pidfd is stored, with CLONE_PIDFD.
    :returns: 0 in the child, in the parent the child's PID.
    """
    # struct clone_args, first version: flags, pidfd, two tid pointers, exit signal, stack and tls.
    place = ctypes.addressof(pidfd) if pidfd is not None else 0
    arguments = (ctypes.c_uint64 * 8)(flags, place, 0, 0, signal.SIGCHLD, 0, 0, 0)
    return syscall("clone3", _CLONE3, arguments, ctypes.c_size_t(ctypes.sizeof(arguments)))


def in_clone3(flags: int, function: Callable[[], T]) -> T:
    """Run *function* in a child made by clone3(2) with *flags*; return its result (a picklable
    value), or raise its error, as :func:`in_child` does.

    :raises OSError: clone3(2) was refused.
    """
    read_end, write_end = os.pipe()
    pid = clone3(flags)
    if pid == 0:
        os.close(read_end)
        _exit_with(write_end, function)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as results:
        payload = results.read()
    return _outcome(payload, os.waitpid(pid, 0)[1])  # type: ignore[return-value]


@contextmanager
def sharing_fs() -> Iterator[int]:
    """Have a process share root and working directory with the caller (CLONE_FS), until the block
    ends. Only for a caller without threads."""
    stay_read, stay_write = os.pipe()
    pid = clone3(CLONE_FS)
    if pid == 0:
        os.close(stay_write)
        os.read(stay_read, 1)
        os._exit(0)
    os.close(stay_read)
    try:
        yield pid
    finally:
        os.close(stay_write)
        os.waitpid(pid, 0)
