# SPDX-License-Identifier: GPL-2.0-only
"""The pytest process while a case runs: forward its reports, enforce the timeout, report a death.

Every item has one report for its set-up, for its call unless the set-up did not pass, and for its
tear-down, whatever becomes of the child. The phase in which a child died is told from the reports
that came before.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import Any

import pytest

from tests.utils import pytest_internals
from tests.utils.isolation import channel, findings, postmortem
from tests.utils.isolation.child import Phase
from tests.utils.isolation.sandbox import Facts
from tests.utils.isolation.zygote import KILL_TIMEOUT, Zygotes
from tests.utils.pytest_internals import CallInfo
from tests.utils.tasks.process import ended

#: Seconds between two looks at a child's events: for what is shown while a case runs, and for a
#: deadline that it sets itself.
_POLL_INTERVAL = 1.0


class Run:
    """One item, run in a child. All its reports but the last two are logged as they come."""

    def __init__(self, item: pytest.Item, limit: float | None, stacks: int) -> None:
        """Prepare a run of *item*.

        :param limit: how long the child may take, in seconds.
        :param stacks: the file into which the child's faulthandler writes.
        """
        #: The report before that of the tear-down, not logged: a finding may yet fail the case.
        self.held: pytest.TestReport | None = None
        #: The report of the child's tear-down, not logged either.
        self.teardown: pytest.TestReport | None = None
        self._item = item
        self._stacks = stacks
        self._limit = limit
        self._deadline: float | None = None
        self._passed: set[str] = set()
        self._reported: set[str] = set()
        self._last: pytest.TestReport | None = None
        self._since = time.time()
        self._broken: str | None = None
        self._ending: BaseException | None = None
        #: Whether the child has said that it is done, and has left nothing.
        self._done = False
        self._clean = False

    def run(self, zygotes: Zygotes, wanted: Facts) -> None:
        """Run the item with the isolation *wanted*.

        :raises pytest.exit.Exception: the case called ``pytest.exit``.
        :raises KeyboardInterrupt: here or in the case.
        """
        if os.fstat(self._stacks).st_size:
            os.ftruncate(self._stacks, 0)
            os.lseek(self._stacks, 0, os.SEEK_SET)
        # A Ctrl-C must not be handled here before this process is ready to kill the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        # A file, not a pipe: to be woken for each event would cost more than the event itself.
        events = os.memfd_create("case-events")
        pidfd = None
        problem = ""
        kind: dict[str, object] = {}
        clean = False
        try:
            zygote = zygotes.get(self._item, wanted)
            pid = zygote.fork(self._item, events)
            if pid is None:
                problem, kind = "The process that forks the cases has ended", {"kind": "broken"}
                return
            pidfd = os.pidfd_open(pid)
            if self._limit is not None:
                self._deadline = time.monotonic() + self._limit
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not self._wait(pidfd, channel.Reader(events)):
                if self._broken is None:
                    problem = f"Timeout (>{self._limit:g} s) in {self._phase()}"
                    kind = {"kind": "timeout", "seconds": self._limit}
                    problem += postmortem.dump_and_kill(pid, pidfd, self._stacks)
                zygote.kill_case(pidfd)
                if not ended(pidfd, KILL_TIMEOUT):
                    problem += postmortem.unkillable(pid)
                    kind = kind or {"kind": "broken"}
                    zygotes.close(0)
                    return
            status = zygote.reap()
            if not problem and not self._done:
                problem, kind = self._cause(status)
            clean = self._clean
        except OSError as error:
            problem, kind = str(error), {"kind": "broken"}
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not clean:
                # An exception may be under way: Ctrl-C, or a hook's.
                if pidfd is not None:
                    zygote.kill_case(pidfd)
                zygotes.close()
            for fd in (events, *([] if pidfd is None else [pidfd])):
                os.close(fd)
            if problem:
                self._report_death(problem, kind)
        if self._ending is not None:
            self.log_held()
            raise self._ending

    def _wait(self, pidfd: int, reader: channel.Reader) -> bool:
        """Handle what the child sends until it has ended; False when it must be killed."""
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        while True:
            wait = _POLL_INTERVAL
            if self._deadline is not None:
                wait = min(wait, max(0.0, self._deadline - time.monotonic()))
            over = bool(poller.poll(wait * 1000))
            try:
                for kind, payload in reader.events():
                    self._handle(kind, payload)
            except channel.BrokenChannel as error:
                self._broken = f"The child's reports cannot be read: {error}"
            if over:
                return True
            if self._broken is not None:
                return False
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return False

    def _handle(self, kind: str, payload: Any) -> None:
        if kind == "report":
            self._take(channel.load_report(self._item.config, payload))
        elif kind == "warning":
            channel.replay_warning(self._item, payload)
        elif kind == "deadline":
            self._limit, self._deadline = payload
        elif kind == "exit":
            message, code = payload
            self._ending = pytest.exit.Exception(message, code)
        elif kind == "interrupt":
            self._ending = KeyboardInterrupt(payload)
        elif kind == "broken":
            self._broken = f"The child's side of the isolation failed:\n{payload}"
        elif kind == "done":
            self._done, self._clean = True, payload
        else:
            raise channel.BrokenChannel(f"unknown event {kind!r}")

    def _take(self, report: pytest.TestReport) -> None:
        self._since = report.stop
        if type(report) is not pytest.TestReport:
            self.log_held()
            pytest_internals.count_failed_subtest(self._item.config, report)
            self._item.ihook.pytest_runtest_logreport(report=report)
            return
        self._reported.add(report.when)
        self._last = report
        if report.passed:
            self._passed.add(report.when)
        if report.when == "teardown":
            self.teardown = report
        else:
            self.log_held()
            self.held = report

    def log_held(self) -> None:
        """Log the report that was held back, if there is one."""
        report, self.held = self.held, None
        if report is not None:
            self._item.ihook.pytest_runtest_logreport(report=report)

    # --- the end of a child that has not reported all -------------------------------------------

    def _phase(self) -> Phase:
        """Return the phase the child is in."""
        if "setup" not in self._reported:
            return "setup"
        return "call" if "setup" in self._passed and "call" not in self._reported else "teardown"

    def _cause(self, status: int | None) -> tuple[str, dict[str, object]]:
        phase = self._phase()
        if self._broken is not None:
            return f"{self._broken}\n(in {phase})", {"kind": "broken"}
        if status is None:
            return f"The case ended in {phase} and nobody saw how", {"kind": "broken"}
        stacks = postmortem.stacks(self._stacks)
        if os.WIFSIGNALED(status):
            name = postmortem.signal_name(os.WTERMSIG(status))
            core = " (core dumped)" if os.WCOREDUMP(status) else ""
            text = f"killed by {name}{core} in {phase}"
            return text + stacks, {"kind": "signal", "signal": name}
        code = os.WEXITSTATUS(status)
        text = f"exited with status {code} in {phase} without a report"
        return text + stacks, {"kind": "exit", "status": code}

    def _report_death(self, problem: str, kind: dict[str, object]) -> None:
        """Report *problem* as the failure of the phase the child was in."""
        item, phase, last = self._item, self._phase(), self._last
        sections = list(last.sections) if last is not None else []
        # The files that pytest captures output in are shared with the child.
        output = pytest_internals.captured_output(item.config, channel.MAX_SECTION)
        sections += [(f"Captured {name} {phase}", text) for name, text in output]
        call: CallInfo[None] = CallInfo.from_call(
            lambda: pytest.fail(problem, pytrace=False), when=phase
        )
        call.start, call.stop = self._since, time.time()
        call.duration = call.stop - call.start
        report = findings.failure(item, call, sections)
        report.isolation = kind  # type: ignore[attr-defined]
        if last is not None:
            report.user_properties = last.user_properties
        self._take(report)
