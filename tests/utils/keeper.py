# SPDX-License-Identifier: GPL-2.0-only
"""The processes around a case's child: whatever it starts ends with it.

Where the caller may make PID namespaces itself, one namespace serves case after case. Its PID 1
does nothing but die on demand and take everything in the namespace along; the case is no PID 1, so
that signals work on it as on any process. The namespace is replaced as soon as a case ended in any
other way than clean. This costs one fork per case, and the pytest process only ever changes the
PID namespace of its next child, for the moment of the fork.

Elsewhere a small process stands between pytest and the case: it makes the user and the PID
namespace, or is the subreaper to which orphans come, and kills all that is left at the end.
"""

from __future__ import annotations

import os
import select
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
from tests.utils.sandbox import Facts, quiet_fork
from tests.utils.syscalls import prctl, setns, unshare
from tests.utils.userns import enter_new_userns

# linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

#: How long killed processes may take to be gone, in seconds.
PATIENCE = 10.0

_CONTROL = struct.Struct("<ii")
_RUNNING = -1


def _fork() -> int:
    # What is in the buffers now would be written by both processes.
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()
    with quiet_fork():
        return os.fork()


def ended(pidfd: int, seconds: float) -> bool:
    """Whether the process of *pidfd* ends within *seconds*."""
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


def die_with(parent: int) -> None:
    """Have the calling process killed when its parent, the process of pidfd *parent*, ends.

    :raises ProcessLookupError: it has ended before that could be arranged.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if ended(parent, 0):
        raise ProcessLookupError(parent)
    os.close(parent)


def _fork_init() -> int:
    """Fork PID 1 of the PID namespace the next child is to be in."""
    parent = os.pidfd_open(os.getpid())
    pid = _fork()
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
        self._back = os.open("/proc/thread-self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            unshare(CLONE_NEWPID)
            try:
                self._init = _fork_init()
            finally:
                setns(self._back, CLONE_NEWPID)
        except BaseException:
            os.close(self._back)
            raise
        self._namespace = os.open(f"/proc/{self._init}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pidfd = os.pidfd_open(self._init)

    def fork(self) -> int:
        """Fork a child into the namespace; return as os.fork() does."""
        pid = -1
        setns(self._namespace, CLONE_NEWPID)
        try:
            pid = _fork()
        finally:
            if pid:
                setns(self._back, CLONE_NEWPID)
        if pid == 0:
            for fd in (self._back, self._namespace, self._pidfd):
                os.close(fd)
        return pid

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
        for fd in (self._back, self._namespace, self._pidfd):
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
            case = _fork()
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
    _pid: int
    _control: int | None
    _namespace: PidNamespace | None

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
        _, status = os.waitpid(self._pid, 0)
        if self._control is None:
            return status
        told = self._told()
        return told[1][1] if len(told) == 2 else None

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self.pidfd)
        if self._control is not None:
            os.close(self._control)


class Keeper:
    """Starts the children of a session's cases, and leaves none behind."""

    def __init__(self) -> None:
        self._namespace: PidNamespace | None = None

    def start(self, wanted: Facts, events: int, run: Callable[[], NoReturn]) -> Process:
        """Fork a child that calls *run*.

        :param wanted: the namespaces it is to have.
        :param events: where a keeper that fails says so (see :mod:`tests.utils.reports`).
        """
        if wanted.pid_namespace and not wanted.user_namespace:
            if self._namespace is None:
                self._namespace = PidNamespace()
            pid = self._namespace.fork()
            if pid == 0:
                run()
            return Process(os.pidfd_open(pid), pid, None, self._namespace)
        # A file, not a pipe: it can be read more than once.
        control = os.memfd_create("case")
        own = os.pidfd_open(os.getpid())
        pid = _fork()
        if pid == 0:
            _keep(wanted, own, control, events, run)
        os.close(own)
        return Process(os.pidfd_open(pid), pid, control, None)

    def renew(self, patience: float = PATIENCE) -> None:
        """End the namespace with all that is in it; the next case gets a new one.

        :param patience: how long that may take, in seconds.
        """
        namespace, self._namespace = self._namespace, None
        if namespace is not None:
            namespace.close(patience)
