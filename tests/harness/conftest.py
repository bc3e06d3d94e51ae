# SPDX-License-Identifier: GPL-2.0-only
"""What the harness tests share: a suite of isolated cases, written and run on the spot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Helpers of these tests are modules by other names than pytest's: their asserts hold under -O too.
pytest.register_assert_rewrite("tests.harness.helpers.real_guest", "tests.harness.helpers.story")

ROOT = Path(__file__).parents[2]
HEADER = """
import os, signal, sys, time, warnings
import pytest
pytestmark = pytest.mark.isolated
"""
PLUGIN = ("-p", "tests.utils.isolation.plugin")
#: With the markers of the kernel cases.
CASE_PLUGINS = (*PLUGIN, "-p", "tests.utils.probes.plugin", "-p", "tests.utils.report.markers")


# Workers of a run inside a test get the path that xdist has kept since this process began: without
# the checkout when that was started as `pytest`.
with suppress(ImportError):
    from xdist.plugin import _sys_path

    if str(ROOT) not in _sys_path:
        _sys_path.insert(0, str(ROOT))


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


@pytest.fixture
def run_cases(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> RunCases:
    """Run the given source as a module of isolated cases, in this process."""
    # For what is started as a process of its own.
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)

    def run(source: str, *arguments: str, header: str = HEADER) -> SuiteRun:
        pytester.makepyfile(header + source)
        result: Any = pytester.runpytest_inprocess(*PLUGIN, *arguments)
        calls = result.reprec.getcalls("pytest_runtest_logreport")
        warned = result.reprec.getcalls("pytest_warning_recorded")
        return SuiteRun(
            int(result.ret),
            [call.report for call in calls],
            [str(call.warning_message.message) for call in warned],
            result.stdout.str() + result.stderr.str(),
        )

    return run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that everybody can reach and write to, with a path that suits a socket."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
