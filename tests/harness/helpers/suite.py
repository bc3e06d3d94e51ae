# SPDX-License-Identifier: GPL-2.0-only
"""A suite of isolated cases: what its source begins with, the plugins it needs, what it gave."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


HEADER = """
import os, signal, sys, time, warnings
import pytest
pytestmark = pytest.mark.isolated
"""


PLUGIN = ("-p", "tests.utils.isolation.plugin")


#: With the markers of the kernel cases.
CASE_PLUGINS = (*PLUGIN, "-p", "tests.utils.probes.plugin", "-p", "tests.utils.report.markers")


@dataclass(frozen=True, slots=True)
class SuiteRun:
    """What a run of isolated cases gave."""

    ret: int
    #: All reports of items in their order, subtests included.
    reports: list[pytest.TestReport]
    warnings: list[str]
    text: str

    def outcomes(self) -> list[tuple[str, str | None, str]]:
        """Per report: the case, the phase, the outcome."""
        return [
            (report.nodeid.partition("::")[2], report.when, report.outcome)
            for report in self.reports
        ]

    def report(self, case: str, when: str = "call") -> pytest.TestReport:
        """The only report of *case* for phase *when*."""
        (found,) = (
            report
            for report in self.reports
            if report.nodeid.endswith(f"::{case}") and report.when == when
        )
        return found


RunCases = Callable[..., SuiteRun]
