# SPDX-License-Identifier: GPL-2.0-only
"""What is told of a case that fails for the state of the machine after it."""

from __future__ import annotations

import pytest

from tests.harness.conftest import PLUGIN, RunCases

PLUGINS = (*PLUGIN, "-p", "tests.utils.requirements", "-p", "no:cacheprovider")
FIX = "a kernel without this fix fails here"
CONFTEST = """
from tests.utils.isolation.findings import Finding
def pytest_isolation_ended(item):
    return Finding("something is wrong", "evidence", "title", {complaints})
"""
CASES = """
@pytest.mark.fixed_by("0123456789ab", "7.9", "mount: stop leaking")
def test_passes(): pass
@pytest.mark.fixed_by("0123456789ab", "7.9", "mount: stop leaking")
def test_fails(): assert False
"""


@pytest.mark.parametrize(
    ("complaints", "named"), [("()", False), ("((1, 'a warning'),)", True)], ids=["left", "kernel"]
)
def test_what_is_left_behind_names_no_fix(
    run_cases: RunCases, pytester: pytest.Pytester, complaints: str, named: bool
) -> None:
    """The commit is that of the case's rule, which holds; a complaint of the kernel's may be how
    it shows that it does not."""
    pytester.makeconftest(CONFTEST.format(complaints=complaints))
    run = run_cases(CASES, *PLUGINS)
    passing, failing = run.report("test_passes"), run.report("test_fails")
    assert passing.failed
    assert "something is wrong" in passing.longreprtext
    assert (FIX in dict(passing.sections)) is named
    assert FIX in dict(failing.sections)
    for report in (passing, failing):
        assert dict(report.sections)["title"] == "evidence"
        assert "reproduce" in dict(report.sections)
