# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: with ``--waive FILE`` a known failure counts as an expected one.

A waived case runs as ever. Only where it fails, in whatever phase and way, its report becomes that
of an expected failure. A waiver that was not needed is reported: it would hide the next failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.utils.report.outcomes import markers_of
from tests.utils.report.waivers import Use, Waiver, parse, unneeded

_OUTPUT = "waivers_with_a_case"
_MARK = "waived: "


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("open_tree_ns", "OPEN_TREE_NAMESPACE cases").addoption(
        "--waive",
        metavar="FILE",
        help="known failures (TOML: [[waive]] with case, rule or fixed_by, with reason, and with"
        " kernel, a version range, if not for all): they count as expected, and a waiver not needed"
        " is reported",
    )


def pytest_configure(config: pytest.Config) -> None:
    name = config.getoption("waive")
    if not name:
        return
    try:
        found = parse(Path(name).read_bytes())
    except OSError as error:
        raise pytest.UsageError(f"--waive {name}: {error.strerror}") from None
    except ValueError as error:
        raise pytest.UsageError(f"--waive {name}: {error}") from None
    release = os.uname().release
    config.pluginmanager.register(
        Waiving(config, [one for one in found if one.holds_on(release)]), "waiving"
    )


class Waiving:
    """The waivers of one session that are meant for this kernel, and what became of them."""

    def __init__(self, config: pytest.Config, waivers: Sequence[Waiver]) -> None:
        self._config = config
        self._waivers = waivers
        #: Numbers of waivers that have a case here, deselected or not.
        self._with_case: set[int] = set()
        #: Covered case -> whether a failure of it was waived; one that was skipped has no entry.
        self._ended: dict[str, bool] = {}
        self._reasons: dict[str, str] = {}
        #: Case -> the number of the waiver that covers it.
        self._numbers: dict[str, int] = {}
        #: Whether other sessions have the rest of the cases: what is needed nowhere is told there.
        self.in_part = False

    def _number_of(self, item: pytest.Item) -> int | None:
        markers = markers_of(item)
        covering = (n for n, one in enumerate(self._waivers) if one.covers(item.nodeid, markers))
        return next(covering, None)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """See all cases there are, before some are deselected."""
        for item in items:
            markers = markers_of(item)
            covers = (one.covers(item.nodeid, markers) for one in self._waivers)
            self._with_case |= {n for n, covered in enumerate(covers) if covered}

    @pytest.hookimpl(hookwrapper=True, tryfirst=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        """Waive a failure; for an isolated case this happens in its child."""
        outcome: Any = yield
        report = outcome.get_result()
        number = self._number_of(item)
        if number is None:
            return
        # The controller of pytest-xdist, where reports are counted, does not have the cases.
        report.waiver = number
        if report.failed:
            report.outcome = "skipped"
            report.wasxfail = _MARK + self._waivers[number].reason

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note which waivers were needed."""
        reason = str(getattr(report, "wasxfail", ""))
        if reason.startswith(_MARK):
            self._ended[report.nodeid] = True
            self._reasons[report.nodeid] = reason
        elif report.when == "call" and report.passed and hasattr(report, "waiver"):
            self._ended.setdefault(report.nodeid, False)
        if hasattr(report, "waiver"):
            self._numbers[report.nodeid] = report.waiver

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """In a worker of pytest-xdist: tell the controller, which has no cases."""
        output: dict[str, Any] | None = getattr(self._config, "workeroutput", None)
        if output is not None:
            output[_OUTPUT] = sorted(self._with_case)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take what a worker has told."""
        self._with_case |= set(getattr(node, "workeroutput", {}).get(_OUTPUT, ()))

    def uses(self) -> list[Use]:
        """What became of each waiver."""
        ends: dict[int, set[bool]] = {}
        for nodeid, waived in self._ended.items():
            ends.setdefault(self._numbers[nodeid], set()).add(waived)
        return [
            Use(
                waiver.name,
                there=number in self._with_case,
                passed=False in ends.get(number, ()),
                needed=True in ends.get(number, ()),
            )
            for number, waiver in enumerate(self._waivers)
        ]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show what was waived, and what need not have been."""
        lines = [f"{nodeid}: {reason}" for nodeid, reason in self._reasons.items()]
        if not self.in_part:
            lines += unneeded([self.uses()])
        if lines:
            terminalreporter.section("waivers")
            for line in lines:
                terminalreporter.line(line)
