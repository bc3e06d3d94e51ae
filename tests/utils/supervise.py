# SPDX-License-Identifier: GPL-2.0-only
"""The pytest process while a case runs: it hands on reports, keeps the deadline, and buries.

Every item has one report for its set-up, for its call unless the set-up did not pass, and for its
tear-down, whatever becomes of the child. The phase in which a child died is told from the reports
that came before.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest
from _pytest.runner import CallInfo

from tests.utils import aftermath, postmortem, reports
from tests.utils.child import Child, Phase
from tests.utils.keeper import PATIENCE, Process, start_kept
from tests.utils.nursery import Nurseries
from tests.utils.process import ended
from tests.utils.sandbox import Facts

#: How long events may lie unread, in seconds: for what is shown while a case runs, and for a
#: deadline that it sets itself.
_LOOK = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is left to report when the child is gone."""

    #: The report before that of the tear-down, not logged yet: what is found now may fail the case.
    held: pytest.TestReport | None
    #: The report of the child's tear-down, not logged yet: the wider scopes may follow.
    teardown: pytest.TestReport | None
    #: The last report there is of the item.
    last: pytest.TestReport | None


def run(
    item: pytest.Item,
    granted: Facts,
    nurseries: Nurseries,
    stacks: int,
    *,
    limit: float | None,
    shared_setup: CallInfo[None],
) -> Outcome:
    """Run *item* in a child and log its reports, all but the last two.

    :param stacks: the file into which the child's faulthandler writes.
    :param limit: how long the child may take, in seconds.
    :param shared_setup: what the pytest process has done of the set-up.
    :raises pytest.exit.Exception: the case called ``pytest.exit``.
    :raises KeyboardInterrupt: here or in the case.
    """
    return _Run(item, granted, nurseries, stacks, limit, shared_setup).run()


class _Run:
    def __init__(
        self,
        item: pytest.Item,
        granted: Facts,
        nurseries: Nurseries,
        stacks: int,
        limit: float | None,
        shared_setup: CallInfo[None],
    ) -> None:
        self._item = item
        self._facts = granted
        self._nurseries = nurseries
        self._stacks = stacks
        self._shared_setup = shared_setup
        self._reports: dict[str, pytest.TestReport] = {}
        self._last: pytest.TestReport | None = None
        self._held: pytest.TestReport | None = None
        self._decoder = reports.Decoder()
        #: Bytes of the events that have been read.
        self._received = 0
        self._limit = limit
        self._deadline = None if limit is None else time.monotonic() + limit
        self._since = time.time()
        self._broken: str | None = None
        self._ending: BaseException | None = None
        #: Whether the child has said that it is done, and has left nothing.
        self._done = False
        self._clean = False

    def run(self) -> Outcome:
        if os.fstat(self._stacks).st_size:
            os.ftruncate(self._stacks, 0)
            os.lseek(self._stacks, 0, os.SEEK_SET)
        # A Ctrl-C must not be handled by the child as if it were this process, nor here before
        # this process is ready to kill the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process, events = self._start(mask)
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            raise
        try:
            self._supervise(process, events, mask)
            if self._ending is not None:
                raise self._ending
        except BaseException:
            self._log_held()
            raise
        finally:
            process.close()
            os.close(events)
        return Outcome(self._held, self._reports.get("teardown"), self._last)

    def _start(self, mask: set[int]) -> tuple[Process, int]:
        """Start the child; return it, and the file its events are in."""
        facts, stacks, habits = self._facts, self._stacks, self._nurseries.habits

        def run(item: pytest.Item, events: int) -> NoReturn:
            Child(item, facts, events, stacks, mask, habits).run()

        nursed = facts.pid_namespace and facts.pid_return
        if nursed:
            # Before there is a file, which a nursery would hold open.
            self._nurseries.prepare(self._item, run)
        # A file, not a pipe: to be woken for each event would cost more than the event itself.
        events = os.memfd_create("case-events")
        try:
            if nursed:
                return self._nurseries.start(self._item, events), events
            copy = habits.ahead()

            def kept() -> NoReturn:
                copy()
                run(self._item, events)

            return start_kept(facts, events, kept), events
        except BaseException:
            os.close(events)
            raise

    def _supervise(self, process: Process, events: int, mask: set[int]) -> None:
        """See *process* to its end, whatever happens; *mask* is the signal mask to do it with."""
        problem: str | None = None
        kind: dict[str, object] = {}
        gone: bool | None = None
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not self._wait(process, events):
                phase = self._phase()
                problem = f"Timeout (>{self._limit:g} s) in {phase}"
                kind = {"kind": "timeout", "seconds": self._limit}
                problem += postmortem.where(process, self._stacks)
                process.kill()
                gone = ended(process.pidfd, PATIENCE)
                if not gone:
                    problem += postmortem.unkillable(process)
                    return
            gone = True
            status = process.reap()
            if problem is None and not self._done:
                problem, kind = self._cause(status)
        finally:
            if gone is None:
                # An exception is under way: Ctrl-C, or a hook's.
                process.kill()
                gone = ended(process.pidfd, PATIENCE)
                if gone:
                    process.reap()
                self._clean = False
            if not self._clean:
                self._nurseries.renew(PATIENCE if gone else 0)
            if problem is not None:
                self._bury(problem, kind)

    def _wait(self, process: Process, events: int) -> bool:
        """Handle what the child sends until it has ended; False when its time is over first."""
        poller = select.poll()
        poller.register(process.pidfd, select.POLLIN)
        while True:
            wait = _LOOK
            if self._deadline is not None:
                wait = min(wait, max(0.0, self._deadline - time.monotonic()))
            over = bool(poller.poll(wait * 1000))
            self._receive(events)
            if over:
                return True
            if self._broken is not None:
                process.kill()
                return ended(process.pidfd, PATIENCE)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                return False

    def _receive(self, events: int) -> None:
        """Handle what has come since the last time."""
        while self._broken is None:
            # Not read(2): the position in the file is the child's.
            data = os.pread(events, 1 << 20, self._received)
            if not data:
                return
            self._received += len(data)
            try:
                for kind, payload in self._decoder.feed(data):
                    self._handle(kind, payload)
            except reports.BrokenChannel as error:
                self._broken = f"The child's reports cannot be read: {error}"

    def _handle(self, kind: str, payload: Any) -> None:
        if kind == "report":
            self._take(reports.load_report(self._item.config, payload))
        elif kind == "warning":
            reports.replay_warning(self._item, payload)
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
            raise reports.BrokenChannel(f"unknown event {kind!r}")

    def _take(self, report: pytest.TestReport, *, shared: bool = True) -> None:
        self._since = report.stop
        when = report.when
        if type(report) is pytest.TestReport:
            self._reports[when] = self._last = report
            if when == "setup" and shared:
                report.duration += self._shared_setup.duration
                report.start = self._shared_setup.start
            if when != "teardown":
                self._log_held()
                self._held = report
        else:
            self._log_held()
            _count_subtest(self._item.config, report)
            self._item.ihook.pytest_runtest_logreport(report=report)

    def _log_held(self) -> None:
        report, self._held = self._held, None
        if report is not None:
            self._item.ihook.pytest_runtest_logreport(report=report)

    # --- the end of a child that has not reported all -------------------------------------------

    def _phase(self) -> Phase:
        """The phase the child is in."""
        setup = self._reports.get("setup")
        if setup is None:
            return "setup"
        if setup.passed and "call" not in self._reports:
            return "call"
        return "teardown"

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

    def _bury(self, problem: str, kind: dict[str, object]) -> None:
        """Report *problem* as the failure of the phase the child was in."""
        item = self._item
        phase = self._phase()
        sections = list(self._last.sections) if self._last is not None else []
        sections += [(f"Captured {name} {phase}", text) for name, text in postmortem.output(item)]
        call: CallInfo[None] = CallInfo.from_call(
            lambda: pytest.fail(problem, pytrace=False), when=phase
        )
        call.start, call.stop = self._since, time.time()
        call.duration = call.stop - call.start
        report = aftermath.failure(item, call, sections)
        report.isolation = kind  # type: ignore[attr-defined]
        if self._last is not None:
            report.user_properties = self._last.user_properties
        self._take(report, shared=False)


def _count_subtest(config: pytest.Config, report: pytest.TestReport) -> None:
    """Count a failed subtest where pytest 9 does, in the pytest process too.

    The count, kept with the session, is what makes the item fail whose subtest failed.
    """
    try:
        from _pytest.subtests import failed_subtests_key
    except ImportError:
        return
    if report.failed:
        counts: Any = config.stash[failed_subtests_key]
        counts[getattr(report, "id", report.nodeid)] += 1
