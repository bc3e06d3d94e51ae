# SPDX-License-Identifier: GPL-2.0-only
"""What the child of an isolated case does: set-up, call and tear-down, each reported as it ends.

The child is forked by a zygote. It runs the case through pytest's own hooks, sends each report to
the pytest process, and leaves by os._exit(2): no other part of pytest ever runs in it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import faulthandler
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal, NoReturn

import pytest

from tests.utils import pytest_internals
from tests.utils.isolation import channel, sandbox
from tests.utils.isolation.prefault import WriteSet
from tests.utils.tasks.process import become_subreaper, parents

#: Makes the child write its Python stacks and die: a signal that no case has a reason to use.
STACKS_SIGNAL = signal.SIGRTMAX

#: How long a process may take to end after its case, in seconds, to count as ended with it.
_EXIT_TIMEOUT = 0.5

Phase = Literal["setup", "call", "teardown"]

#: Holds the child this process is; empty in the pytest process.
_current: list[Child] = []


def current() -> Child | None:
    """Return the isolated child this process is; None in the pytest process."""
    return _current[0] if _current else None


class Child:
    """One case, from the fork on."""

    def __init__(
        self, item: pytest.Item, granted: sandbox.Facts, events: int, stacks: int, mask: set[int]
    ) -> None:
        """Prepare to run *item*.

        :param events: where the reports go (see :mod:`tests.utils.isolation.channel`).
        :param stacks: where faulthandler writes.
        :param mask: the signals that the case finds blocked.
        """
        self.facts = granted
        self._item = item
        self._events = events
        self._stacks = stacks
        self._mask = mask
        self._pid = os.getpid()
        self._proc = -1
        self._warnings: list[warnings.WarningMessage] = []
        self._own_deadline = False

    def run(self, write_set: WriteSet | None) -> NoReturn:
        """Run the case, report, and end the process.

        :param write_set: where to note which memory the case has written to.
        """
        status = 70
        try:
            try:
                self._arrange()
                _current.append(self)
                self._phases()
                if write_set is not None:
                    write_set.record(self._proc)
                status = 0
            except BaseException:
                # Also for the eye: the case may have closed the file.
                traceback.print_exc()
                self._send("broken", traceback.format_exc())
        finally:
            self._flush()
            os._exit(status)

    def _send(self, kind: str, payload: object = None) -> None:
        channel.send(self._events, kind, payload)

    def _flush(self) -> None:
        for stream in {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}:
            if stream is not None:
                with suppress(OSError, ValueError):
                    stream.flush()

    def _arrange(self) -> None:
        # The terminal's Ctrl-C is for the pytest process, which then kills the child.
        os.setsid()
        # signal's own function would make an enum member of each signal that was blocked.
        _signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        # Orphans come to the case, so that waitpid(2) tells whether anything is left.
        become_subreaper()
        faulthandler.enable(file=self._stacks)
        faulthandler.register(STACKS_SIGNAL, file=self._stacks, all_threads=True, chain=True)
        sandbox.enter(self.facts)
        with suppress(OSError):
            self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _phases(self) -> None:
        item: Any = self._item
        # What other items have set up is the pytest process's to tear down. Setting the collectors
        # up runs no code of a case, but pytest looks for some at length.
        pytest_internals.enter_collectors(item)
        pytest_internals.renew_request(item)
        # Subtests report through the hook. In the child there is nobody behind it.
        item.ihook.pytest_runtest_logreport = self._logreport
        try:
            with self._recording_warnings():
                if self._phase("setup").passed and not item.config.getoption("setuponly", False):
                    self._phase("call")
                self._phase("teardown", nextitem=None)
        except pytest.exit.Exception as ending:
            self._abandon()
            self._send("exit", (ending.msg, ending.returncode))
        except KeyboardInterrupt:
            self._abandon()
            self._send("interrupt", traceback.format_exc())
        self._send("done", not self._children_left())

    def _phase(self, when: Phase, **arguments: Any) -> pytest.TestReport:
        report = pytest_internals.call_and_report(self._item, when, log=False, **arguments)
        self._flush()
        self._deliver(report)
        return report

    def _logreport(self, *, report: pytest.TestReport) -> None:
        # The session's own part of the hook: it decides whether a failed subtest ends the case.
        self._item.session.pytest_runtest_logreport(report)
        self._deliver(report)

    def _deliver(self, report: pytest.TestReport) -> None:
        for message in self._warnings:
            self._send("warning", channel.dump_warning(message))
        self._warnings.clear()
        self._send("report", channel.dump_report(self._item.config, report))

    @contextmanager
    def _recording_warnings(self) -> Iterator[None]:
        recorded = self._item.config.pluginmanager.has_plugin("warnings")
        # The filters in force are those pytest has set for the item.
        with warnings.catch_warnings(record=True) if recorded else nullcontext() as log:
            if log is not None:
                self._warnings = log
            yield

    def _abandon(self) -> None:
        """Tear the item down without a report, as a session that ends early does."""
        with suppress(Exception):
            pytest_internals.tear_down(self._item.session, None)

    def arm(self, seconds: float | None) -> None:
        """Ask the pytest process for a deadline *seconds* from now; None ends it."""
        if seconds is not None or self._own_deadline:
            self._own_deadline = seconds is not None
            # Not for how long: it will not be read at once.
            end = None if seconds is None else time.monotonic() + seconds
            self._send("deadline", (seconds, end))

    def _children_left(self) -> bool:
        """Reap what has ended; return whether anything is still running."""
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
        return False

    def fail_for_leftovers(self) -> None:
        """Fail if a process that the case has started is still running."""
        __tracebackhide__ = True
        deadline = time.monotonic() + _EXIT_TIMEOUT
        while self._children_left():
            if time.monotonic() > deadline:
                names = "\n".join(self._left()) or "(their names cannot be read)"
                pytest.fail(f"the case left processes behind (killed now):\n{names}", pytrace=False)
            time.sleep(0.005)

    def _left(self) -> Iterator[str]:
        """Yield a line for each child: orphans come to this process."""
        with suppress(OSError):
            for pid, parent in parents(self._proc).items():
                if parent == self._pid:
                    fd = os.open(f"{pid}/cmdline", os.O_RDONLY, dir_fd=self._proc)
                    with os.fdopen(fd, errors="replace") as file:
                        yield f"  PID {pid}: {file.read(4096).replace(chr(0), ' ').strip()}"

    @contextmanager
    def exit_stray_forks(self) -> Iterator[None]:
        """End any process but the child itself that leaves the block.

        A fork made by a case comes along here when it returns or raises. It must not run fixtures,
        reports and hooks a second time.
        """
        try:
            yield
        except BaseException as error:
            if os.getpid() != self._pid:
                self._exit_stray(error)
            raise
        if os.getpid() != self._pid:
            self._exit_stray(None)

    def _exit_stray(self, error: BaseException | None) -> NoReturn:
        status = 1
        try:
            how = "raised:" if error else "returned from it and should have ended by os._exit()"
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else int(error.code is not None)
            else:
                print(f"Process {os.getpid()}, forked by the case, {how}", file=sys.stderr)
                traceback.print_exception(error)
            self._flush()
        finally:
            os._exit(status & 0xFF)
