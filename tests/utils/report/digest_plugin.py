# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a section at the end that has the run in rules and fixes.

A run in which no case tells of a rule has none.
"""

from __future__ import annotations

import os
import shutil

import pytest

from tests.utils.report import digest_text
from tests.utils.report.case import Case
from tests.utils.report.case_reporter import CaseReporter, is_listing
from tests.utils.report.digest import Digest, digest
from tests.utils.report.known import known
from tests.utils.report.outcomes import markers_of

NAME = "digest"


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput") and not is_listing(config):
        config.pluginmanager.register(Collector(config), NAME)


def digest_of(config: pytest.Config) -> Digest | None:
    """Return the digest of the session; None where there is none to make."""
    collector: Collector | None = config.pluginmanager.get_plugin(NAME)
    return collector.digest() if collector is not None else None


class Collector(CaseReporter):
    """Keeps of each case what the digest is made of."""

    def __init__(self, config: pytest.Config) -> None:
        super().__init__()
        self._config = config
        self._markers: dict[str, dict[str, list[object]]] = {}
        self._cases: list[Case] = []

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note the markers; from a worker of pytest-xdist they come with the reports."""
        self._markers = {
            item.nodeid: markers_of(item) for item in items if item.get_closest_marker("rule")
        }

    def ended(self, case: Case) -> None:
        """Keep a case that checks a rule."""
        markers = case.markers or self._markers.get(case.id, {})
        if "rule" in markers or (case.bad and case.id == "session"):
            self._cases.append(
                Case(
                    case.id,
                    case.outcome,
                    case.headline,
                    markers=markers,
                    deviation=case.deviation,
                )
            )

    def digest(self) -> Digest | None:
        """Return the digest of the cases so far; None where none checks a rule."""
        if not any("rule" in case.markers for case in self._cases):
            return None
        there = known(self._config.rootpath)
        return digest(self._cases, there.rules, there.fixes, os.uname().release)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the section."""
        found = self.digest()
        if found is None or found.is_empty:
            return
        width = max(80, shutil.get_terminal_size((100, 24)).columns)
        terminalreporter.section("rules and fixes")
        verbose = terminalreporter.config.option.verbose > 0
        for line in digest_text.lines(found, width, verbose):
            terminalreporter.line(line)
