# SPDX-License-Identifier: GPL-2.0-only
"""What the child of an isolated case does: set-up, call and tear-down, each reported as it ends.

The child inherits a pytest process in which everything of a wider scope than the function is set
up already. It runs the rest through pytest's own hooks, sends each report to the pytest process,
and leaves by os._exit(2): no other part of pytest ever runs in it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # typeshed has no stub of it
import faulthandler
import gc
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
from _pytest.runner import call_and_report

from tests.utils import reports, sandbox
from tests.utils.keeper import PR_SET_CHILD_SUBREAPER, parent_of
from tests.utils.memory import Habits
from tests.utils.syscalls import prctl

#: Makes the child write its Python stacks and die: a signal that no case has a reason to use.
STACKS_SIGNAL = signal.SIGRTMAX

#: How long a process may take to end after its case, in seconds, to count as ended with it.
_GRACE = 0.5

Phase = Literal["setup", "call", "teardown"]

#: Holds the child this process is; empty in the pytest process.
_current: list[Child] = []


def current() -> Child | None:
    """The isolated child this process is; None in the pytest process."""
    return _current[0] if _current else None


def set_up_shared_fixtures(item: Any) -> None:
    """Set up the fixtures of *item* that outlive it.

    Again in the child, where all of them exist already: *item* takes them over, and does not add
    them to what it must tear down.
    """
    # A fixture's value is only given out while its item is being set up.
    stack = item.session._setupstate.stack
    stack[item] = ([], None)
    try:
        for name in getattr(item, "fixturenames", ()):
            if name != "request" and _scope(item, name) != "function":
                item._request.getfixturevalue(name)
    finally:
        del stack[item]


def _scope(item: Any, name: str) -> str:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and name in callspec._arg2scope:
        return str(callspec._arg2scope[name].value)
    definitions = item._fixtureinfo.name2fixturedefs.get(name)
    return str(definitions[-1].scope) if definitions else "function"


class Child:
    """One case, from the fork on."""

    def __init__(
        self,
        item: pytest.Item,
        granted: sandbox.Facts,
        events: int,
        stacks: int,
        mask: set[int],
        habits: Habits,
    ) -> None:
        self._item = item
        self._facts = granted
        self._events = events
        self._stacks = stacks
        self._mask = mask
        self._habits = habits
        self._pid = os.getpid()
        self._proc = -1
        self._warnings: list[warnings.WarningMessage] = []
        self._own_deadline = False

    def run(self) -> NoReturn:
        """Run the case, report, and end the process."""
        status = 70
        try:
            try:
                self._arrange()
                _current.append(self)
                self._phases()
                self._habits.learn(self._proc)
                status = 0
            except BaseException:
                # Also for the eye: the case may have closed the file.
                traceback.print_exc()
                self._send("broken", traceback.format_exc())
        finally:
            self._flush()
            os._exit(status)

    def _send(self, kind: str, payload: object = None) -> None:
        reports.send(self._events, kind, payload)

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
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        # Collecting would only copy pages the process is about to drop.
        gc.disable()
        gc.freeze()
        faulthandler.enable(file=self._stacks)
        faulthandler.register(STACKS_SIGNAL, file=self._stacks, all_threads=True, chain=True)
        sandbox.enter(self._facts)
        with suppress(OSError):
            self._proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def _phases(self) -> None:
        item = self._item
        # A nursery has not seen the item being set up.
        if getattr(item, "_request", None) is False:
            item._initrequest()  # type: ignore[attr-defined]
        stack = item.session._setupstate.stack
        # Nor the collectors around it change, where that runs no code.
        around = item.listchain()[:-1]
        for node in [node for node in stack if node not in around]:
            del stack[node]
        for node in around:
            stack.setdefault(node, ([], None))
        set_up_shared_fixtures(item)
        for node, entry in stack.items():
            # Finalizers of wider scopes run in the pytest process, once. Those that the child
            # adds from here on (a fixture asked for by name, while running) are its own to run.
            stack[node] = ([], entry[1])
        # Subtests report through the hook. In the child there is nobody behind it.
        hooks: Any = item.ihook
        hooks.pytest_runtest_logreport = self._logreport
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
        report = call_and_report(self._item, when, log=False, **arguments)
        self._flush()
        self._deliver(report)
        return report

    def _deliver(self, report: pytest.TestReport) -> None:
        for message in self._warnings:
            self._send("warning", reports.dump_warning(message))
        self._warnings.clear()
        self._send("report", reports.dump_report(self._item.config, report))

    def _logreport(self, *, report: pytest.TestReport) -> None:
        # The session's own part of the hook: it decides whether a failed subtest ends the case.
        self._item.session.pytest_runtest_logreport(report)
        self._deliver(report)

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
            self._item.session._setupstate.teardown_exact(None)

    def arm(self, seconds: float | None) -> None:
        """Ask the pytest process for a deadline *seconds* from now; None ends it."""
        if seconds is not None or self._own_deadline:
            self._own_deadline = seconds is not None
            # Not for how long: it will not be read at once.
            end = None if seconds is None else time.monotonic() + seconds
            self._send("deadline", (seconds, end))

    def _children_left(self) -> bool:
        """Reap what has ended; is anything still running?"""
        with suppress(ChildProcessError):
            while True:
                pid, _ = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
        return False

    def fail_for_leftovers(self) -> None:
        """Fail if a process that the case has started is still running."""
        __tracebackhide__ = True
        deadline = time.monotonic() + _GRACE
        while self._children_left():
            if time.monotonic() > deadline:
                names = "\n".join(self._descendants()) or "(their names cannot be read)"
                pytest.fail(f"the case left processes behind (killed now):\n{names}", pytrace=False)
            time.sleep(0.005)

    def _read(self, path: str) -> str:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._proc)
            with os.fdopen(fd, "rb") as file:
                return file.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
        return ""

    def _descendants(self) -> list[str]:
        if self._proc < 0:
            return []
        numbers = [name for name in os.listdir(self._proc) if name.isdecimal()]
        parents = {pid: parent_of(pid, self._proc) for pid in numbers}
        own = str(os.getpid())

        def descends(pid: str) -> bool:
            seen = set()
            while pid and pid not in seen:
                seen.add(pid)
                pid = parents.get(pid, "")
                if pid == own:
                    return True
            return False

        return [
            f"  PID {pid} {self._read(f'{pid}/comm')}: {self._read(f'{pid}/cmdline')}"
            for pid in numbers
            if descends(pid)
        ]

    @contextmanager
    def only_here(self) -> Iterator[None]:
        """End any process but the child itself that leaves the block.

        A fork made by a case comes along here when it returns or raises. It must not run fixtures,
        reports and hooks a second time.
        """
        try:
            yield
        except BaseException as error:
            if os.getpid() != self._pid:
                self._end_stray(error)
            raise
        if os.getpid() != self._pid:
            self._end_stray(None)

    def _end_stray(self, error: BaseException | None) -> NoReturn:
        status = 1
        try:
            if isinstance(error, SystemExit):
                status = error.code if isinstance(error.code, int) else int(error.code is not None)
            elif error is not None:
                print(f"Process {os.getpid()}, forked by the case, raised:", file=sys.stderr)
                traceback.print_exception(error)
            else:
                print(
                    f"Process {os.getpid()}, forked by the case, returned from it"
                    " and should have ended by os._exit()",
                    file=sys.stderr,
                )
            self._flush()
        finally:
            os._exit(status & 0xFF)
