# SPDX-License-Identifier: GPL-2.0-only
"""The processes that measure: each in the same mount namespace, which ends with them.

Between the benchmark and them stand two more: a monitor, which makes the user namespace where the
caller has too little privilege, and the PID namespace; and PID 1 of that, which makes the ground
and forks the others. When the benchmark ends in whatever way, the monitor ends, and with it PID 1,
and with that every process and mount there is.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn

from bench.layout import Layout, prepare
from bench.readers import NotTheTable
from bench.work import Container, Done, Job, NoContainer, perform
from tests.utils.tasks.process import ChildError, die_with
from tests.utils.tasks.userns import enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget
from tests.utils.uapi.constants import CLONE_NEWPID
from tests.utils.uapi.syscalls import unshare

_SIGNALS = {signal.SIGTERM, signal.SIGCHLD}
#: Blocked while the benchmark forks: os.fork() calls Python's hooks, in which the exception of a
#: signal's handler is printed, and lost.
INTERRUPTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class WorkersFailed(Exception):
    """The processes could not be set up, or one has died."""


class MethodFailed(WorkersFailed):
    """A method failed: which, and the kernel's error."""


def fork(run: Callable[[], object], failures: Connection) -> int:
    """Fork a child that runs *run*, dies with the caller, and sends to *failures* why it failed."""
    own = os.pidfd_open(os.getpid())
    pid = os.fork()
    if pid:
        os.close(own)
        return pid
    try:
        die_with(own)
        run()
    except OSError as error:
        failures.send(WorkersFailed(f"{error.strerror}{_hint(error)}"))
    except BaseException:
        failures.send(WorkersFailed(traceback.format_exc()))
    finally:
        os._exit(0)


def _hint(error: OSError) -> str:
    """What to do about an errno, on a line of its own; empty where that is plain."""
    match error.errno:
        case errno.EPERM if not capget().has(CAP_SYS_ADMIN):
            text = "run it as root, or allow user namespaces (sysctl user.max_user_namespaces)"
        case errno.EAGAIN:
            text = (
                "see sysctl kernel.threads-max and kernel.pid_max, ulimit -u, the cgroup's pids.max"
            )
        case errno.ENOSPC:
            text = "see sysctl fs.mount-max and user.max_mnt_namespaces"
        case errno.EINVAL if "pivot_root" in str(error.strerror):
            text = "before Linux 7.0 an initramfs is a root that cannot be left: boot from a disk"
        case _:
            return ""
    return f"\nhint: {text}"


class Workers:
    """Processes on one ground. A context manager: they end with the block."""

    def __init__(self, layout: Layout, size: int) -> None:
        """Start them.

        :raises WorkersFailed: no namespace may be made, or a limit is in the way.
        """
        pipes = [Pipe() for _ in range(size)]
        self._lines = [ours for ours, _ in pipes]
        theirs = [end for _, end in pipes]
        # Kept blocked in the child, which waits for two of them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS | INTERRUPTS)
        try:
            self._monitor_pid = fork(lambda: self._monitor(layout, theirs), theirs[0])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for end in theirs:
            end.close()
        try:
            for line in self._lines:
                self._receive(line)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes; they, their namespaces and their mounts are gone on return."""
        if self._monitor_pid:
            with suppress(ProcessLookupError):
                os.kill(self._monitor_pid, signal.SIGTERM)
            os.waitpid(self._monitor_pid, 0)
            self._monitor_pid = 0
        for line in self._lines:
            line.close()

    def work(self, jobs: Sequence[Job]) -> list[Done | Container]:
        """Have each process do one of *jobs*, all at the same time; their results.

        :raises WorkersFailed: one failed.
        """
        lines = self._lines[: len(jobs)]
        for line, job in zip(lines, jobs, strict=True):
            line.send(job)
        return [self._receive(line) for line in lines]

    def _receive(self, line: Connection) -> Done | Container:
        try:
            answer = line.recv()
        except (EOFError, ConnectionError):
            raise WorkersFailed("a measuring process has died") from None
        if isinstance(answer, WorkersFailed):
            raise answer
        assert isinstance(answer, Done | Container)
        return answer

    # --- in the processes -----------------------------------------------------------------------

    def _monitor(self, layout: Layout, lines: list[Connection]) -> None:
        """Start PID 1, and end it at a signal. Ctrl-C, the benchmark's own, does not come here."""
        os.setsid()
        for line in self._lines:
            line.close()
        if not capget().has(CAP_SYS_ADMIN):
            enter_new_userns()
        unshare(CLONE_NEWPID)
        init = fork(lambda: self._be_init(layout, lines), lines[0])
        for line in lines:
            line.close()
        signal.sigwait(_SIGNALS)
        os.kill(init, signal.SIGKILL)
        os.waitpid(init, 0)

    def _be_init(self, layout: Layout, lines: list[Connection]) -> None:
        """Be PID 1: make the ground, fork the workers, end with the first that ends."""
        ground = prepare(layout)
        gc.disable()
        gc.freeze()

        def work_for(line: Connection) -> Callable[[], None]:
            def work() -> NoReturn:
                line.send(Done(0, 0.0))
                while True:
                    line.send(_performed(line.recv(), lambda job: perform(job, ground)))

            return work

        for line in lines:
            fork(work_for(line), line)
        for line in lines:
            line.close()
        os.wait()


def _performed(job: Job, perform: Callable[[Job], Done | Container]) -> object:
    """The result of *job*, or why there is none."""
    try:
        return perform(job)
    except OSError as error:
        return MethodFailed(f"({job.letter}) {error.strerror}{_hint(error)}")
    except (ChildError, NoContainer, NotTheTable) as error:
        return MethodFailed(f"({job.letter}) {error}")
