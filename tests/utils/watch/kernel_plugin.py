# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a case during which the kernel complains fails, and shows what the kernel said.

After each isolated case the process that ran it reads what was logged since the case before.
Several workers of pytest-xdist read the same log at the same time. A complaint names the process it
is about, and each process of a case bears its worker's name (tasks.case_name): so one that
names another worker's case is left to that worker; one that names no case, such as that of a kernel
thread, fails each case that it came in, and says why it may not be theirs.

The process that reports follows the log as well. What no case has been charged with by the end
(because it came after the last one, or because a worker is lost) fails the session.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from warnings import WarningMessage

import pytest

from tests.utils.isolation.findings import Finding, fail_session
from tests.utils.report import header
from tests.utils.report.outcomes import is_of_isolated
from tests.utils.tasks.case_name import case_name
from tests.utils.tasks.private_fds import close_private, keep_private
from tests.utils.watch import complaints
from tests.utils.watch.complaints import Complaint
from tests.utils.watch.kernel_log import KernelLog, Record, Taint

#: Lines of the log that are shown: so many before the first complaint, and so many in all.
_BEFORE, _SHOWN = 20, 300
#: Complaints that are shown of those that no case was charged with.
_UNCHARGED = 10
_CASE = re.compile(r"\bcase-\d+\b")
_TITLE = "kernel log"
_NOBODY = "No case was charged: it came after the last one, or names a process of another run."


@dataclass(frozen=True, slots=True)
class Window:
    """What the kernel has said in some time."""

    records: list[Record]
    #: The taint that is new.
    bits: int

    def complaints(self) -> list[Complaint]:
        """The reports of faults in it."""
        return list(complaints.complaints(record.text for record in self.records))

    def numbers(self, found: Sequence[Complaint]) -> list[int]:
        """The sequence numbers of *found*."""
        return [self.records[place].sequence for one in found for place in one.places]

    def finding(self, found: Sequence[Complaint], caveat: str) -> Finding:
        """*found*, which are complaints of this window, as what is wrong."""
        places = [place for one in found for place in one.places]
        taint = f"New taint: {header.taint(self.bits)}" if self.bits else ""
        return Finding(
            f"the kernel complained: {found[0].message}",
            "\n\n".join(filter(None, [self._shown(places[0]), taint, caveat])),
            _TITLE,
            tuple((self.records[place].sequence, self.records[place].text) for place in places),
        )

    def tainted(self, caveat: str) -> Finding:
        """New taint alone; its number is none of the log's."""
        message = f"the kernel has become tainted: {header.taint(self.bits)}"
        return Finding(message, caveat, _TITLE, ((-1, message),))

    def _shown(self, first: int) -> str:
        begin = max(0, first - _BEFORE)
        lines = [str(record) for record in self.records[begin : begin + _SHOWN]]
        left = len(self.records) - begin - len(lines)
        if begin:
            lines.insert(0, f"[... {begin} lines left out ...]")
        return "\n".join([*lines, *([f"[... {left} lines left out ...]"] if left else [])])


class Log:
    """Log and taint of the kernel, as far as this process may read them."""

    def __init__(self) -> None:
        #: Why the log cannot be read, empty when it can.
        self.problem = ""
        self._log: KernelLog | None = None
        self._taint: Taint | None = None
        try:
            self._log = KernelLog()
            keep_private(self._log.fd)
        except OSError as error:
            hint = " (see kernel.dmesg_restrict)" if isinstance(error, PermissionError) else ""
            self.problem = f"{error}{hint}"
        with suppress(OSError):
            self._taint = Taint()
            keep_private(self._taint.fd)

    def look(self) -> Window:
        """What is new since the last call."""
        # In this order: the bit is set when the message is there.
        bits = self._taint.new() if self._taint is not None else 0
        return Window(self._log.read() if self._log is not None else [], bits)

    def overwritten(self) -> int:
        """How many messages, at least, nobody could read; counted anew from here."""
        if self._log is None:
            return 0
        count, self._log.overwritten = self._log.overwritten, 0
        return count

    def close(self) -> None:
        """Close both."""
        for source in (self._log, self._taint):
            if source is not None:
                close_private(source.fd)


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    # Whether the cases run in other processes, and are only reported here.
    controls = worker is None and config.getoption("dist", "no") != "no"
    if not controls:
        company = worker["workercount"] - 1 if worker is not None else 0
        config.pluginmanager.register(Cases(company), "kernel-watch-cases")
    if worker is None:
        config.pluginmanager.register(Session(follows=controls), "kernel-watch-session")


class Cases:
    """Charges the cases that run in this process."""

    def __init__(self, company: int) -> None:
        """*company* is how many other workers there are."""
        self._company = company
        self._own = case_name(os.getpid())
        self._log: Log | None = None
        self._before = ""

    def pytest_isolation_begins(self) -> None:
        """Begin."""
        self._log = Log()

    def pytest_isolation_ended(self, item: pytest.Item) -> Finding | None:
        """Charge *item* with what the kernel has said, unless it names somebody else."""
        if self._log is None:
            raise RuntimeError("a case has ended before one began")
        window = self._log.look()
        if count := self._log.overwritten():
            _warn(item, f"kernel log: at least {count} messages were overwritten before being read")
        before, self._before = self._before, item.nodeid
        found = window.complaints()
        if mine := [one for one in found if not self._names(one) or self._is_named(one)]:
            caveat = ""
            if not all(map(self._is_named, mine)):
                caveat = "Not all of it names a process of this case." + self._others(before)
            return window.finding(mine, caveat)
        if window.bits and not found:
            return window.tainted("Nothing in the log tells why." + self._others(before))
        return None

    def pytest_unconfigure(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()

    def _names(self, complaint: Complaint) -> list[str]:
        return _CASE.findall("\n".join(complaint.lines))

    def _is_named(self, complaint: Complaint) -> bool:
        return self._own in self._names(complaint)

    def _others(self, before: str) -> str:
        text = ""
        if self._company:
            text += f" Up to {self._company} cases of other workers ran at the same time."
        if before:
            text += f" It may be late work of an earlier case; the last one here was {before}."
        return text


class Session:
    """Charges the session, where it is reported, with what no case was charged with."""

    def __init__(self, *, follows: bool) -> None:
        """With *follows*, read the log after each case: nobody else in this process does."""
        self._follows = follows
        self._log: Log | None = None
        #: Whether an isolated case was reported.
        self._any = False
        self._left: list[Finding] = []
        self._bits = 0
        #: Numbers of the messages that cases were charged with.
        self._told: set[int] = set()

    def pytest_sessionstart(self) -> None:
        """Begin."""
        self._log = Log()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what a case was charged with."""
        self._any = self._any or is_of_isolated(report)
        self._told |= {number for number, _ in getattr(report, "kernel_complaints", ())}

    def pytest_runtest_logfinish(self) -> None:
        """Read what there is, before it is overwritten."""
        if self._follows:
            self._read()

    def _read(self) -> None:
        if self._log is None:
            raise RuntimeError("a case was reported before the session began")
        window = self._log.look()
        self._bits |= window.bits
        self._left = [
            one for one in self._left if self._told.isdisjoint(n for n, _ in one.complaints)
        ] + [
            window.finding([one], _NOBODY)
            for one in window.complaints()
            if self._told.isdisjoint(window.numbers([one]))
        ]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session for what is left."""
        if self._log is None or not self._any:
            return
        self._read()
        if self._left:
            texts = [one.text for one in self._left[:_UNCHARGED]]
            numbers = [number for one in self._left for number in one.complaints]
            message = self._left[0].message
            fail_session(session, Finding(message, "\n\n".join(texts), _TITLE, tuple(numbers)))
        elif self._bits and not self._told:
            fail_session(session, Window([], self._bits).tainted(_NOBODY))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say when nobody was watching."""
        if self._any and self._log is not None and self._log.problem:
            terminalreporter.line(f"kernel log not watched: {self._log.problem}")

    def pytest_unconfigure(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()


def _warn(item: pytest.Item, text: str) -> None:
    path, line, _ = item.reportinfo()
    message = WarningMessage(
        pytest.PytestWarning(text), pytest.PytestWarning, os.fspath(path), (line or 0) + 1
    )
    item.ihook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": message,
            "nodeid": item.nodeid,
            "when": "runtest",
            "location": None,
        }
    )
