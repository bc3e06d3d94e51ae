# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: the terminal counts what gave no answer as the other reports do.

To pytest a case that was killed, or that ran out of time, failed in its call, and it would count
among the failed checks. Every report of this project counts it as an error.
"""

from __future__ import annotations

import pytest

from tests.utils.report.outcomes import Report, outcome_of


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(report: Report) -> tuple[str, str, str] | None:
    """Count among pytest's errors what is no failed check."""
    if not report.failed or report.when in ("collect", "setup", "teardown"):
        return None
    outcome, _ = outcome_of([report])
    return None if outcome == "failed" else ("error", "E", outcome.upper())
