# SPDX-License-Identifier: GPL-2.0-only
"""How a case ended, from pytest's reports of it: one account for every reporter of this project."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.utils.report.case import Case

Report = pytest.TestReport | pytest.CollectReport


#: Markers that steer pytest, and say nothing of what a case is about.
_MECHANICS = frozenset(["parametrize", "usefixtures", "filterwarnings", "skipif", "timeout"])


def _plain(value: object) -> object:
    """*value* when JSON can carry it, else its text."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def markers_of(item: pytest.Item) -> dict[str, list[object]]:
    """The markers of a case: name -> values, those of repeated markers joined."""
    found: dict[str, list[object]] = {}
    for marker in item.iter_markers():
        if marker.name not in _MECHANICS:
            values = [*marker.args, *marker.kwargs.values()]
            found.setdefault(marker.name, []).extend(_plain(value) for value in values)
    return found


def is_of_isolated(report: Report) -> bool:
    """Return whether *report* is one of an isolated case, wherever that ran."""
    return "isolated" in getattr(report, "keywords", ())


def _is_subtest(report: Report) -> bool:
    """Whether *report* is of a part of a case (the fixture ``subtests``)."""
    return hasattr(report, "context")


def outcome_of(reports: Sequence[Report]) -> tuple[str, str]:
    """(outcome, reason) of a case from its reports: the worst of set-up, call and tear-down.

    The outcome is one of ``report.case.OUTCOMES``. The report of a module that could not be
    collected will do as well. A failed subtest fails its case; other subtests decide nothing.
    """
    failed = [report for report in reports if report.failed]
    if failed:
        report = failed[0]
        crash = getattr(report.longrepr, "reprcrash", None)
        # Not longreprtext, which begins with the name of an xdist worker.
        text = str(crash.message if crash is not None else report.longrepr).strip()
        # Set by tests.utils.isolation.supervisor for a child that gave no report of its own.
        end = getattr(report, "isolation", {}).get("kind", "")
        if end == "timeout" or "Timeout (>" in text.partition("\n")[0]:
            return "timeout", text
        return ("failed" if report.when == "call" and not end else "error"), text
    whole = [report for report in reports if not _is_subtest(report)]
    for report in whole:
        if hasattr(report, "wasxfail"):
            reason = str(report.wasxfail).removeprefix("reason: ")
            return ("xfailed" if report.skipped else "xpassed"), reason
        if report.skipped:
            where = report.longrepr
            text = str(where[2] if isinstance(where, tuple) else where)
            return "skipped", text.removeprefix("Skipped: ")
    if whole:
        return "passed", ""
    return "error", "the case started and gave no report"


def _text(report: Report) -> str:
    text = str(report.longrepr).strip()  # not longreprtext: see above
    return f"--- subtest: {report.head_line} ---\n{text}" if _is_subtest(report) else text


def case_of(nodeid: str, reports: Sequence[Report]) -> Case:
    """The case *nodeid* from all its reports."""
    outcome, reason = outcome_of(reports)
    whole = [report for report in reports if not _is_subtest(report)]
    return Case(
        nodeid,
        outcome,
        reason,
        # The time of a subtest is in that of its case.
        duration=sum(getattr(report, "duration", 0.0) for report in whole),
        text="\n".join(_text(report) for report in reports if report.failed),
        sections={title: text for report in reports for title, text in report.sections},
        # Where the case ran elsewhere: see tests.utils.report.markers.
        markers=next((report.markers for report in reports if hasattr(report, "markers")), {}),
        properties={
            name: _plain(value)
            for report in whole
            for name, value in getattr(report, "user_properties", ())
        },
        deviation=next((r.deviation for r in reports if hasattr(r, "deviation")), {}),
        complaints=[
            message for report in whole for _, message in getattr(report, "kernel_complaints", ())
        ],
    )
