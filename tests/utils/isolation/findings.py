# SPDX-License-Identifier: GPL-2.0-only
"""Findings: what a plugin saw wrong with the machine after a case. A finding fails the case.

A case that has failed by itself keeps its own failure, with the finding added. What is found when
no case is left fails the session, in the name of a case called "session", so that each report
carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import pytest

from tests.utils import pytest_internals
from tests.utils.pytest_internals import CallInfo


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong."""

    #: In one line.
    message: str
    #: The evidence, and whose it is.
    text: str
    title: str
    #: Sequence number and text of the kernel's messages in it.
    complaints: tuple[tuple[int, str], ...] = ()
    #: Whether it may come of the rule the case checks, and so of a fix that the kernel lacks.
    by_rule: bool = True


class Hooks:
    """The hooks of plugins that look at the machine."""

    @pytest.hookspec
    def pytest_isolation_begins(self, config: pytest.Config) -> None:
        """Called in a pytest process before the first isolated case it runs."""

    @pytest.hookspec
    def pytest_isolation_prepared(self, config: pytest.Config, mountinfo: int) -> None:
        """Called when the process that forks the cases has made its mount namespace.

        *mountinfo* is a descriptor of that namespace's table (proc_pid_mountinfo(5)), open as long
        as the process lives.
        """

    @pytest.hookspec
    def pytest_isolation_ended(self, item: pytest.Item) -> Finding | None:
        """Called in the pytest process for each isolated case, skipped ones included, when nothing
        of it runs any more and its last reports are still to be logged.

        Return what is wrong with the machine since the case before.
        """


def failure(
    item: pytest.Item, call: CallInfo[None], sections: Sequence[tuple[str, str]] = ()
) -> pytest.TestReport:
    """Return the report of a failure which is none of Python's; *call* raised ``pytest.fail``.

    :param sections: those that come first.
    """
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    message = str(call.excinfo.value).partition("\n")[0] if call.excinfo else ""
    pytest_internals.locate_failure(report, item, message)
    report.sections = [*sections, *(s for s in report.sections if s not in sections)]
    return report


def _raised(findings: Sequence[Finding], when: Any) -> CallInfo[None]:
    def fail() -> NoReturn:
        error = pytest.fail.Exception("; ".join(one.message for one in findings), pytrace=False)
        # Read by tests.utils.report.markers.
        error.by_rule = any(one.by_rule for one in findings)  # type: ignore[attr-defined]
        raise error

    return CallInfo.from_call(fail, when=when)


def charge(
    item: pytest.Item, report: pytest.TestReport, findings: Sequence[Finding]
) -> pytest.TestReport:
    """Return *report*, failed because of *findings*."""
    if not findings:
        return report
    shown = [(finding.title, finding.text) for finding in findings]
    if report.failed:
        report.sections += shown
    else:
        # A mark that expects the case to fail does not expect the kernel to; a waiver still may.
        pytest_internals.expect_no_failure(item)
        call = _raised(findings, report.when)
        call.start, call.stop, call.duration = report.start, report.stop, report.duration
        properties = report.user_properties
        report = failure(item, call, [*report.sections, *shown])
        report.user_properties = properties
    _note(report, findings)
    return report


def _note(report: pytest.TestReport, findings: Sequence[Finding]) -> None:
    complaints = [complaint for finding in findings for complaint in finding.complaints]
    report.kernel_complaints = complaints  # type: ignore[attr-defined]


def fail_session(session: pytest.Session, finding: Finding) -> None:
    """Fail the session because of *finding*; for ``pytest_sessionfinish``."""
    call = _raised([finding], "teardown")
    name = "session"
    report = pytest.TestReport(
        nodeid=name,
        location=(name, None, name),
        keywords={},
        outcome="failed",
        longrepr=call.excinfo.getrepr(style="value") if call.excinfo is not None else None,
        when="teardown",
        sections=[(finding.title, finding.text)],
        start=call.start,
        stop=call.stop,
    )
    _note(report, [finding])
    hook = session.config.hook
    hook.pytest_runtest_logstart(nodeid=name, location=report.location)
    hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=name, location=report.location)
    if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
