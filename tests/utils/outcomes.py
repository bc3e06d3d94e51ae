# SPDX-License-Identifier: GPL-2.0-only
"""How a case ended, from pytest's reports of it: one table for every reporter of this project."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

Report = pytest.TestReport | pytest.CollectReport


def outcome_of(reports: Sequence[Report]) -> tuple[str, str]:
    """(outcome, reason) of a case from its reports: the worst of set-up, call and tear-down.

    The outcome is one of ``tests.utils.ktap.OUTCOMES``. The report of a module that could not be
    collected will do as well.
    """
    failed = [report for report in reports if report.failed]
    if failed:
        report = failed[0]
        crash = getattr(report.longrepr, "reprcrash", None)
        # Not longreprtext, which begins with the name of an xdist worker.
        text = str(crash.message if crash is not None else report.longrepr).strip()
        if text.startswith("[XPASS(strict)]"):
            return "xpassed", text.removeprefix("[XPASS(strict)]").strip()
        # Set by tests.utils.supervise for a child that gave no report of its own.
        end = getattr(report, "isolation", {}).get("kind", "")
        if end == "timeout" or "Timeout (>" in text.partition("\n")[0]:
            return "timeout", text
        return ("failed" if report.when == "call" and not end else "error"), text
    for report in reports:
        if hasattr(report, "wasxfail"):
            reason = str(report.wasxfail).removeprefix("reason: ")
            return ("xfailed" if report.skipped else "xpassed"), reason
        if report.skipped:
            where = report.longrepr
            text = str(where[2] if isinstance(where, tuple) else where)
            return "skipped", text.removeprefix("Skipped: ")
    if reports:
        return "passed", ""
    return "error", "the case started and gave no report"


def failure_text(reports: Sequence[Report]) -> str:
    """What the failed ones of *reports* have to show, empty when none failed."""
    return "\n".join(report.longreprtext for report in reports if report.failed)


def sections_of(reports: Sequence[Report]) -> dict[str, str]:
    """The captured output and other sections of *reports*: title -> text."""
    return {title: text for report in reports for title, text in report.sections}
