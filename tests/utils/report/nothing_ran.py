# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a run that chose kernel cases and skipped all of them is not green.

It ends with the status pytest has for a run that collected nothing, and with the reason in its
last line. A run of other tests alone is none of its business.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.utils.report.outcomes import is_of_isolated, outcome_of


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watch(), "nothing-ran")


class Watch:
    """Counts what became of the kernel cases."""

    def __init__(self) -> None:
        self._skipped: Counter[str] = Counter()
        self._ran = False

    @property
    def nothing(self) -> str:
        """That nothing was tested, and why; empty when something was, or nothing was to be."""
        if self._ran or not self._skipped:
            return ""
        (reason, count), *others = self._skipped.most_common()
        most = f"; {count} of them" if others else ""
        total = self._skipped.total()
        return f"nothing was tested: all {total} kernel cases were skipped{most}: {reason}"

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one report into account."""
        if not is_of_isolated(report):
            return
        outcome, reason = outcome_of([report])
        if outcome == "skipped":
            self._skipped[reason] += 1
        elif report.when == "call" or outcome != "passed":
            self._ran = True

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the status."""
        if self.nothing and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Say so in the last line of all, below the list of skips and pytest's count of them."""
        reporter: pytest.TerminalReporter | None
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if self.nothing and reporter is not None:
            reporter.ensure_newline()
            reporter.line(self.nothing, yellow=True)
