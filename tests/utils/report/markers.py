# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: the head of a run, and what markers add to the report of a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.utils.diagnosis import deviation_of
from tests.utils.report import header, hints
from tests.utils.report.outcomes import markers_of

MARKERS = (
    "rule(*ids): the rules of tests/open_tree_ns/RULES.md the case checks",
    "upstream(name): the kernel's own selftest (fixture.variant.test) that the case re-expresses",
    "fixed_by(commit, version, subject): the rule holds since this kernel commit; shown when the "
    "case fails",
    "finding(title): a gap in current kernels that docs/findings.md has under this title; a kernel "
    "that shows it does not fail, and one that has closed it is told so",
    "newer(what): a kernel newer than this suite may fail the case, since it knows WHAT",
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, for ``pytest --markers`` and ``--strict-markers``."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Expect the cases of open findings to fail, and mind neither end."""
    mark = item.get_closest_marker("finding")
    if mark is not None:
        reason = f"open finding: {mark.args[0]} (docs/findings.md)"
        item.add_marker(pytest.mark.xfail(strict=False, raises=AssertionError, reason=reason))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Say which kernel commit fixed the rule a failing case checks, and how to run it again."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "setup" and hasattr(item.config, "workerinput"):
        # The controller of pytest-xdist, where reports are made, does not have the cases.
        report.markers = markers_of(item)  # type: ignore[attr-defined]
    if not report.failed:
        return
    if call.excinfo is not None:
        report.deviation = deviation_of(call.excinfo.value).dump()  # type: ignore[attr-defined]
    fixed_by = [value for mark in item.iter_markers("fixed_by") for value in mark.args]
    # What the case was charged with may have nothing to do with its rule (findings.Finding).
    if call.excinfo is not None and not getattr(call.excinfo.value, "by_rule", True):
        fixed_by = []
    options = ""
    if item.get_closest_marker("stress"):
        options = f"--stress {item.config.getoption('stress'):g}"
    report.sections += hints.sections(item.nodeid, fixed_by, options).items()


def pytest_report_header() -> list[str]:
    """The head of the run."""
    return header.lines()
