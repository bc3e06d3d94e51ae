# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: of a case that is over, what nobody will be shown is forgotten.

pytest keeps all reports to its end, three or more of a case, and what a run has left with its item.
Of most reports it needs no more than their number: those are forgotten here once every other
plugin has had them, in the process that runs the cases and in a controller of pytest-xdist alike.
What the terminal is to show is kept: failures and errors, and what ``-r`` and ``--durations`` ask
for.
"""

from __future__ import annotations

import heapq
from typing import Any

import pytest

#: Categories of the terminal that are shown on request -> the letters of ``-r`` that request it;
#: "" is all that passed and is no result.
_SHOWN_BY = {
    "": "",
    "passed": "pP",
    "subtests passed": "",
    "skipped": "s",
    "xfailed": "x",
    "xpassed": "X",
}


class _Counted:
    """Stands for a report among those that are only counted."""


_COUNTED = _Counted()


class _Reported(set[object]):
    """The names of the cases that have a result; of those that are over only their number."""

    over = 0

    def add(self, name: object) -> None:
        """Add a case, which may be there."""
        super().add(str(name))

    def end(self, name: str) -> None:
        """The case *name* is over."""
        if name in self:
            self.remove(name)
            self.over += 1

    def __len__(self) -> int:
        return self.over + super().__len__()


class _Counts(dict[object, int]):
    """Counts that are 0 without an entry, and get none by being looked at."""

    def __missing__(self, key: object) -> int:
        return 0


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    _forget_passed_subtests(config)
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    # A worker's terminal shows nothing to anybody.
    worker = hasattr(config, "workerinput")
    if reporter is not None and (worker or not _needs_all(config)):
        config.pluginmanager.register(Forgetting(reporter, worker=worker), "forgetting")


def _forget_passed_subtests(config: pytest.Config) -> None:
    """Let pytest 9 count the failed subtests of a case without an entry for each that has none."""
    try:
        from _pytest.subtests import failed_subtests_key
    except ImportError:
        return
    stash: Any = config.stash  # pytest declares a defaultdict
    stash[failed_subtests_key] = _Counts()


def _needs_all(config: pytest.Config) -> bool:
    """Whether the terminal needs all reports: for the times of all, or of each module, or because
    a case runs more than once."""
    times = config.getoption("durations") == 0 or config.getini("console_output_style") == "times"
    return bool(times or config.getoption("dist", "no") == "each")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Have the names made now, which pytest 9.2 makes, and keeps, when first asked for them."""
    for item in session.items:
        _ = item.nodeid


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Forget what plugins have noted on *item* for as long as it runs."""
    untouched = not len(item.stash)
    try:
        return (yield)
    finally:
        if untouched:
            item.stash = pytest.Stash()
            if hasattr(item, "_store"):  # pytest's own second name for it
                item._store = item.stash


class Forgetting:
    """Keeps small what the terminal *reporter* has of the cases."""

    def __init__(self, reporter: Any, *, worker: bool) -> None:
        letters = "" if worker else reporter.reportchars
        options = reporter.config.option
        shown = {name for name, by in _SHOWN_BY.items() if not set(by).isdisjoint(letters)}
        if getattr(options, "xfail_tb", False):
            shown.add("xfailed")
        self._counted = _SHOWN_BY.keys() - shown
        self._stats: dict[str, list[Any]] = reporter.stats
        #: Running cases of which something will be shown: then their tear-down's output is, too.
        self._shown: set[str] = set()
        self._reported = reporter._progress_nodeids_reported = _Reported()
        self._wanted: int = 0 if worker else options.durations or 0
        #: Of the forgotten reports those that took longest, the shortest of them first.
        self._slowest: list[tuple[float, int, pytest.TestReport]] = []
        self._number = 0

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Forget *report*, which all others have had, if it will not be shown."""
        category = next(
            (name for name, have in self._stats.items() if have and have[-1] is report), None
        )
        if category not in self._counted:
            self._shown.add(report.nodeid)
        elif category:
            self._stats[category][-1] = _COUNTED
            self._note_time(report)
        elif not (report.when == "teardown" and report.nodeid in self._shown):
            self._stats[""].pop()
            self._note_time(report)

    def _note_time(self, report: pytest.TestReport) -> None:
        self._number += 1
        heapq.heappush(self._slowest, (report.duration, -self._number, report))
        if len(self._slowest) > self._wanted:
            heapq.heappop(self._slowest)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Forget the names of a case that is over."""
        self._shown.discard(nodeid)
        self._reported.end(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self) -> None:
        """Give back the reports that ``--durations`` may show."""
        slowest = sorted(self._slowest, reverse=True)
        self._stats.setdefault("", []).extend(report for _, _, report in slowest)
