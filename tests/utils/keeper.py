# SPDX-License-Identifier: GPL-2.0-only
"""The processes around a case's child: whatever it starts ends with it.

Where the caller may make PID namespaces itself, one namespace serves case after case. Its PID 1
does nothing but die on demand and take everything in the namespace along; the case is no PID 1, so
that signals work on it as on any process. The namespace is replaced as soon as a case ended in any
other way than clean. The cases in it are forked by a nursery (see :mod:`tests.utils.nursery`).

Elsewhere a small process stands between pytest and the case: it makes the user and the PID
namespace, or is the subreaper to which orphans come, and kills all that is left at the end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from tests.utils import reports
from tests.utils.constants import CLONE_NEWPID
from tests.utils.process import die_with, ended
from tests.utils.sandbox import Facts, quiet_fork
from tests.utils.syscalls import closing_fd, prctl, setns, unshare
from tests.utils.userns import enter_new_userns

# linux/prctl.h
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36

#: How long killed processes may take to be gone, in seconds.
PATIENCE = 10.0

_CONTROL = struct.Struct("<ii")
_RUNNING = -1

#: Descriptors of the pytest process that are of no use to a case, or could be harmed by it.
_private: set[int] = set()


def keep_private(fd: int) -> None:
    """Have *fd* closed in each process that is forked by :func:`fork` from now on."""
    _private.add(fd)


def close_private(fd: int) -> None:
    """Close *fd*, and forget it."""
    _private.discard(fd)
    os.close(fd)


def case_name(pid: int) -> str:
    """The name of every process in a case of pytest process *pid*, unless it runs a program.

    It is how the kernel's log names them. (Such a name has 15 characters at most.)
    """
    return f"case-{pid}"


def name_case() -> None:
    """In a child of the pytest process: take the name of its cases, and hand it on."""
    name = ctypes.create_string_buffer(case_name(os.getppid()).encode())
    prctl(PR_SET_NAME, ctypes.addressof(name))


def flush_output() -> None:
    """Write what Python has in the buffers of the output."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()


def fork() -> int:
    """os.fork(), without a warning that other threads exist."""
    # What is in the buffers now would be written by both processes.
    flush_output()
    with quiet_fork():
        pid = os.fork()
    if pid == 0:
        while _private:
            os.close(_private.pop())
    return pid


def _fork_init() -> int:
    """Fork PID 1 of the PID namespace the next child is to be in."""
    parent = os.pidfd_open(os.getpid())
    pid = fork()
    if pid:
        os.close(parent)
        return pid
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        die_with(parent)
        os.setsid()
        # Orphans are reaped by the kernel.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.chdir("/")
        # A pipe held open here would keep its reader waiting.
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                os.close(int(name))
        while True:
            signal.pause()
    finally:
        os._exit(1)


class PidNamespace:
    """A PID namespace for the caller's children-to-be, and its PID 1."""

    def __init__(self) -> None:
        back = os.open("/proc/thread-self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        with closing_fd(back):
            unshare(CLONE_NEWPID)
            try:
                self._init = _fork_init()
            finally:
                setns(back, CLONE_NEWPID)
        self._namespace = os.open(f"/proc/{self._init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pidfd = os.pidfd_open(self._init)

    def enter(self) -> None:
        """In a child of the caller: have all its children born in the namespace."""
        setns(self._namespace, CLONE_NEWPID)
        for fd in (self._namespace, self._pidfd):
            os.close(fd)

    def kill(self) -> None:
        """Kill everything in the namespace. Children of the caller are the caller's to reap."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def close(self, patience: float) -> bool:
        """Kill everything in the namespace; is all gone after *patience* seconds?"""
        self.kill()
        gone = ended(self._pidfd, patience)
        if gone:
            os.waitpid(self._init, 0)
        for fd in (self._namespace, self._pidfd):
            os.close(fd)
        return gone


class _Terminated(BaseException):
    """The pytest process asks the keeper to put an end to the case."""


def _terminated(_number: int, _frame: object) -> NoReturn:
    raise _Terminated


def _kill_children() -> None:
    """Kill children until there are none, orphans that come to this subreaper included."""
    own = str(os.getpid())
    while True:
        for pid, parent in (
            (int(name), parent_of(name)) for name in os.listdir("/proc") if name.isdecimal()
        ):
            if parent == own:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def parent_of(pid: str, proc: int | None = None) -> str:
    """The parent's PID of process *pid*, as text; empty when the process is gone.

    :param proc: a descriptor of the /proc to look in, instead of the path's.
    """
    try:
        if proc is None:
            fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        else:
            fd = os.open(f"{pid}/stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
        with os.fdopen(fd, "rb") as file:
            # The command's name may hold anything, a closing parenthesis too.
            return file.read().rpartition(b")")[2].split()[1].decode()
    except OSError:
        return ""


def _keep(
    granted: Facts, parent: int, control: int, events: int, run: Callable[[], NoReturn]
) -> NoReturn:
    """The process between pytest and the case, from its fork to its end."""
    try:
        os.setsid()
        die_with(parent)
        name_case()
        handlers = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, _terminated),
            signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        }
        init = 0
        try:
            if granted.user_namespace:
                enter_new_userns()
            if granted.pid_namespace:
                unshare(CLONE_NEWPID)
                init = _fork_init()
            else:
                prctl(PR_SET_CHILD_SUBREAPER, 1)
            own = os.pidfd_open(os.getpid())
            case = fork()
            if case == 0:
                die_with(own)
                for number, handler in handlers.items():
                    signal.signal(number, handler)
                os.close(control)
                run()
            os.write(control, _CONTROL.pack(case, _RUNNING))
            _, status = os.waitpid(case, 0)
            os.write(control, _CONTROL.pack(case, status))
        except _Terminated:
            pass
        except BaseException:
            reports.send(events, "broken", traceback.format_exc())
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if init:
            os.kill(init, signal.SIGKILL)
            with suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)
        else:
            _kill_children()
    finally:
        os._exit(0)


@dataclass(slots=True)
class Process:
    """A case under way, as the pytest process sees it."""

    #: Becomes readable when the case is over (and its keeper's work with it).
    pidfd: int
    _pid: int | None
    #: Where its keeper tells of it.
    _control: int | None = None
    #: Those of a nursery's case: what it ends with, and how its wait status is asked for.
    _namespace: PidNamespace | None = None
    _status: Callable[[], int | None] | None = None

    def _told(self) -> list[tuple[int, int]]:
        """What the keeper has said so far: pairs of the case's PID and its wait status."""
        if self._control is None:
            return []
        data = os.pread(self._control, _CONTROL.size * 2, 0)
        whole = len(data) - len(data) % _CONTROL.size
        return list(_CONTROL.iter_unpack(data[:whole]))

    @property
    def pid(self) -> int | None:
        """The PID of the case's own process; None when that is not known yet."""
        if self._control is None:
            return self._pid
        told = self._told()
        return told[0][0] if told else None

    def kill(self) -> None:
        """Kill the case and everything it has started; wait for none of it."""
        with suppress(ProcessLookupError):
            if self._namespace is not None:
                self._namespace.kill()
            if self._control is None:
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(self.pidfd, signal.SIGTERM)

    def reap(self) -> int | None:
        """The case's wait status, once it is over; None when its keeper could not tell."""
        if self._status is not None:
            return self._status()
        assert self._pid is not None
        os.waitpid(self._pid, 0)
        told = self._told()
        return told[1][1] if len(told) == 2 else None

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.pidfd)
        if self._control is not None:
            os.close(self._control)


def start_kept(wanted: Facts, events: int, run: Callable[[], NoReturn]) -> Process:
    """Fork a keeper, and a child of it that calls *run*.

    :param wanted: the namespaces the child is to have.
    :param events: where a keeper that fails says so (see :mod:`tests.utils.reports`).
    """
    # A file, not a pipe: it can be read more than once.
    control = os.memfd_create("case")
    own = os.pidfd_open(os.getpid())
    pid = fork()
    if pid == 0:
        _keep(wanted, own, control, events, run)
    os.close(own)
    return Process(os.pidfd_open(pid), pid, control)
