# SPDX-License-Identifier: GPL-2.0-only
"""The pytest process while a case runs: it hands on reports, keeps the deadline, and buries.

Every item has one report for its set-up, for its call unless the set-up did not pass, and for its
tear-down, whatever becomes of the child. The phase in which a child died is told from the reports
that came before.
"""

from __future__ import annotations

import os
import re
import select
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
from _pytest.runner import CallInfo

from tests.utils import reports
from tests.utils.child import STACKS_SIGNAL, Child, Phase
from tests.utils.keeper import PATIENCE, Keeper, Process, ended
from tests.utils.sandbox import Facts

#: How long a child may take to write its stacks, in seconds.
_STACKS_PATIENCE = 1.0


def run(
    item: pytest.Item,
    granted: Facts,
    keeper: Keeper,
    stacks: int,
    *,
    limit: float | None,
    shared_setup: CallInfo[None],
) -> pytest.TestReport | None:
    """Run *item* in a child and log its reports; return that of the tear-down for completion.

    :param stacks: the file into which the child's faulthandler writes.
    :param limit: how long the child may take, in seconds.
    :param shared_setup: what the pytest process has done of the set-up.
    :raises pytest.exit.Exception: the case called ``pytest.exit``.
    :raises KeyboardInterrupt: here or in the case.
    """
    return _Run(item, granted, keeper, stacks, limit, shared_setup).run()


class _Run:
    def __init__(
        self,
        item: pytest.Item,
        granted: Facts,
        keeper: Keeper,
        stacks: int,
        limit: float | None,
        shared_setup: CallInfo[None],
    ) -> None:
        self._item = item
        self._facts = granted
        self._keeper = keeper
        self._stacks = stacks
        self._shared_setup = shared_setup
        self._reports: dict[str, pytest.TestReport] = {}
        self._decoder = reports.Decoder()
        self._limit = limit
        self._deadline = None if limit is None else time.monotonic() + limit
        self._since = time.time()
        self._broken: str | None = None
        self._ending: BaseException | None = None
        #: Whether the child has said that it is done, and has left nothing.
        self._done = False
        self._clean = False

    def run(self) -> pytest.TestReport | None:
        if os.fstat(self._stacks).st_size:
            os.ftruncate(self._stacks, 0)
            os.lseek(self._stacks, 0, os.SEEK_SET)
        read_end, write_end = os.pipe()
        os.set_blocking(read_end, False)

        def in_child() -> NoReturn:
            os.close(read_end)
            Child(self._item, self._facts, write_end, self._stacks).run()

        try:
            process = self._keeper.start(write_end, in_child)
            os.close(write_end)
            try:
                self._supervise(process, read_end)
            finally:
                process.close()
        finally:
            os.close(read_end)
        if self._ending is not None:
            raise self._ending
        return self._reports.get("teardown")

    def _supervise(self, process: Process, events: int) -> None:
        """See *process* to its end, whatever happens."""
        problem: str | None = None
        kind: dict[str, object] = {}
        buried = False
        try:
            if not self._wait(process, events):
                phase = self._phase()
                problem = f"Timeout (>{self._limit:g} s) in {phase}"
                kind = {"kind": "timeout", "seconds": self._limit}
                problem += self._where(process)
                process.kill()
                if not ended(process.pidfd, PATIENCE):
                    problem += _unkillable(process)
                    return
            buried = True
            status = process.reap()
            if problem is None and not self._done:
                problem, kind = self._cause(status)
        finally:
            if not buried:
                # Unkillable, or an exception is under way.
                process.kill()
                if ended(process.pidfd, PATIENCE):
                    process.reap()
            if not self._clean or not buried:
                self._keeper.renew()
            if problem is not None:
                self._bury(problem, kind)

    def _wait(self, process: Process, events: int) -> bool:
        """Handle what the child sends until it has ended; False when its time is over first."""
        poller = select.poll()
        poller.register(events, select.POLLIN)
        poller.register(process.pidfd, select.POLLIN)
        while self._broken is None:
            wait = None
            if self._deadline is not None:
                wait = max(0.0, self._deadline - time.monotonic()) * 1000
            ready = dict(poller.poll(wait))
            if not ready:
                return False
            if events in ready and not self._receive(events):
                poller.unregister(events)
            if process.pidfd in ready:
                # A descendant may hold the pipe open: no waiting for its end.
                while self._receive(events):
                    pass
                return True
        process.kill()
        return ended(process.pidfd, PATIENCE)

    def _receive(self, events: int) -> bool:
        """Handle what is there to read; False when that is nothing."""
        try:
            data = os.read(events, 1 << 20)
        except BlockingIOError:
            return False
        try:
            for kind, payload in self._decoder.feed(data):
                self._handle(kind, payload)
        except reports.BrokenChannel as error:
            self._broken = f"The child's reports cannot be read: {error}"
        return bool(data) and self._broken is None

    def _handle(self, kind: str, payload: Any) -> None:
        if kind == "report":
            self._take(reports.load_report(self._item.config, payload))
        elif kind == "warning":
            reports.replay_warning(self._item, payload)
        elif kind == "deadline":
            self._limit = payload
            self._deadline = None if payload is None else time.monotonic() + payload
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

    def _take(self, report: pytest.TestReport) -> None:
        self._since = time.time()
        when = report.when
        if type(report) is pytest.TestReport:
            self._reports[when] = report
            if when == "setup":
                report.duration += self._shared_setup.duration
                report.start = self._shared_setup.start
            if when == "teardown":
                return  # it is not over yet
        else:
            _count_subtest(self._item.config, report)
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
        stacks = self._written_stacks()
        if os.WIFSIGNALED(status):
            name = _signal_name(os.WTERMSIG(status))
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
        before = self._reports.get("call") or self._reports.get("setup")
        sections = list(before.sections) if before is not None else []
        capture = item.config.pluginmanager.get_plugin("capturemanager")
        if capture is not None and capture.is_globally_capturing():
            # The child's capture file is ours, with what the child wrote and did not take out.
            out, err = capture.read_global_capture()
            sections += [
                (f"Captured {name} {phase}", text)
                for name, text in (("stdout", out), ("stderr", err))
                if text
            ]
        call: CallInfo[None] = CallInfo.from_call(
            lambda: pytest.fail(problem, pytrace=False), when=phase
        )
        call.start, call.stop = self._since, time.time()
        call.duration = call.stop - call.start
        report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None:
            path, line, _ = item.reportinfo()
            crash.path, crash.lineno = os.fspath(path), (line or 0) + 1
            crash.message = problem.partition("\n")[0]
        report.sections = [*sections, *(s for s in report.sections if s not in sections)]
        report.isolation = kind  # type: ignore[attr-defined]
        reports.merge_sections(report)
        if phase == "teardown":
            self._reports[phase] = report
        else:
            self._take(report)

    def _written_stacks(self) -> str:
        size = os.fstat(self._stacks).st_size
        text = os.pread(self._stacks, min(size, 1 << 20), 0).decode(errors="replace")
        # Below this frame there is nothing but pytest's and this plugin's own code.
        text = re.sub(r"^  File .* in call_and_report\n(  File .*\n)*", "", text, flags=re.M)
        return f"\n\nPython stacks:\n{text.rstrip()}" if text else ""

    def _where(self, process: Process) -> str:
        """Where the child is: its Python stacks, and what /proc tells."""
        pid = process.pid
        if pid is None:
            return "\n\n(the case's process is not known)"
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, STACKS_SIGNAL)
        end = time.monotonic() + _STACKS_PATIENCE
        size, last = 0, -1
        while time.monotonic() < end and (size == 0 or size != last):
            last = size
            time.sleep(0.02)
            size = os.fstat(self._stacks).st_size
        stacks = self._written_stacks()
        if not stacks:
            stacks = (
                f"\n\nNo Python stacks: {_signal_name(STACKS_SIGNAL)} had no effect in"
                f" {_STACKS_PATIENCE:g} s (the case blocks it, or is stuck in the kernel)"
            )
        return stacks + _kernel_view(pid)


def _kernel_view(pid: int) -> str:
    """Where in the kernel process *pid* is, as far as /proc tells the caller."""
    text = ""
    for name in ("wchan", "stack"):
        with suppress(OSError):
            content = Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
            if content not in ("", "0"):
                text += f"\n\n/proc/{pid}/{name}:\n{content}"
    return text


def _unkillable(process: Process) -> str:
    pid = process.pid
    text = f"\n\nNot gone {PATIENCE:g} s after SIGKILL, left behind: PID {pid}"
    with suppress(OSError):
        text += f"\n\n/proc/{pid}/status:\n{Path(f'/proc/{pid}/status').read_text().strip()}"
    return text + _kernel_view(pid) if pid is not None else text


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


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
