# SPDX-License-Identifier: GPL-2.0-only
"""The base of the pytest plugins that report case by case: it makes cases out of pytest's reports.

Works in a pytest process that runs the cases itself and in the controller of pytest-xdist alike:
the workers' reports arrive there. A module none of whose cases will be seen, because it is broken
or skipped, counts as a case.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.utils.report.case import Case
from tests.utils.report.outcomes import Report, case_of

#: With these pytest lists something and runs nothing.
_LISTINGS = ("collectonly", "showfixtures", "show_fixtures_per_test")


def is_listing(config: pytest.Config) -> bool:
    """Return whether pytest is to list something and run nothing."""
    return any(config.getoption(listing, False) for listing in _LISTINGS)


def is_wanted(config: pytest.Config, name: str, option: str) -> bool:
    """Whether a report asked for by *option* (in pytest: *name*) is to be made by this process.

    :raises pytest.UsageError: where it cannot be.
    """
    if not config.getoption(name, None) or hasattr(config, "workerinput"):
        return False
    if is_listing(config):
        return False
    if config.getoption("dist", "no") == "each":
        raise pytest.UsageError(f"{option} cannot tell apart the runs of one case: no --dist=each")
    return True


class CaseReporter:
    """Tells its subclass what happens, in this order: planned, started and ended, finished."""

    def __init__(self) -> None:
        self._uncollected: dict[str, Report] = {}
        self._planned: int | None = None
        self._ended = 0
        #: The reports of the cases that have begun and not ended.
        self.running: dict[str, list[Report]] = {}
        self._lost = ""
        #: Why the session is lost, in full.
        self.lost_text = ""

    # --- for the subclass ------------------------------------------------------------------------

    def planned(self, ids: Sequence[str]) -> None:
        """These cases will be run."""

    def started(self, nodeid: str) -> None:
        """A case begins."""

    def ended(self, case: Case) -> None:
        """A case has ended."""

    def finished(self, lost: str) -> None:
        """The session is over; *lost* is why it did not come to its end, empty when it did."""

    # --- the beginning ---------------------------------------------------------------------------

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what became of a module none of whose cases will be seen."""
        if not report.passed:
            self._uncollected.setdefault(report.nodeid or "collection", report)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell the plan."""
        self._plan([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Tell the plan; every worker has the same cases."""
        self._plan(ids)

    def _plan(self, ids: Sequence[str]) -> None:
        if self._planned is not None:
            return
        every = list(dict.fromkeys([*self._uncollected, *ids]))
        self._planned = len(every)
        self.planned(every)
        for name, report in self._uncollected.items():
            self._end(name, [report])

    # --- one case after the other ----------------------------------------------------------------

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a case runs."""
        self.running[nodeid] = []
        self.started(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its case has ended."""
        self.running.setdefault(report.nodeid, []).append(report)
        when: str = report.when
        if when == "???":  # pytest-xdist's, for a case that took its worker along; no end follows
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell how the case ended."""
        self._end(nodeid, self.running.pop(nodeid, []))

    def _end(self, nodeid: str, reports: Sequence[Report]) -> None:
        self._ended += 1
        self.ended(case_of(nodeid, reports))

    # --- the end ---------------------------------------------------------------------------------

    def pytest_internalerror(self, excrepr: object) -> None:
        """Note why the session is lost."""
        self.lost_text = str(excrepr)
        self._lost = "internal error: " + self.lost_text.strip().rpartition("\n")[2]

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note why the session is lost: Ctrl-C, pytest.exit, or modules that are broken."""
        text = str(excinfo.value)
        # The text of a Ctrl-C in a case's child is the stack it met.
        self._lost = self._lost or ("" if "\n" in text else text) or excinfo.typename

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Tell the end."""
        self._plan([])
        planned = self._planned or 0
        missing = planned - self._ended
        lost = self._lost or str(session.shouldfail or session.shouldstop or "")
        if not lost and missing > 0:
            lost = f"{missing} of {planned} cases did not run"
        if not lost and exitstatus == pytest.ExitCode.USAGE_ERROR:
            lost = "usage error"
        broken = missing > 0 or self._lost or not self._ended
        self.finished(lost if broken else "")
