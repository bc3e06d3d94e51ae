# SPDX-License-Identifier: GPL-2.0-only
"""The reports of a run in a guest, and the plugin there that they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.cases import CASES
from tests.utils.report.case import Case
from vm import paths
from vm.commands import check
from vm.report.summary import Summary
from vm.run.stream import Records


def test_the_summary_names_the_rules_of_each_case() -> None:
    markers = {"rule": ["r1", "r2"], "upstream": ["u"]}
    case = Case("x.py::y", "failed", markers=markers, complaints=["BUG: x"])
    found = json.loads(Summary("1 failed", environment={"release": "7.9"}).json([case]))
    assert found["environment"]["release"] == "7.9"
    assert found["cases"][0]["rules"] == ["r1", "r2"]
    assert found["cases"][0]["upstream"] == ["u"]
    assert found["cases"][0]["kernel_complaints"] == ["BUG: x"]


def test_the_closing_line_of_a_check_counts_every_report(tmp_path: Path) -> None:
    for name, cases in (("a", CASES), ("b", CASES[:1])):
        (tmp_path / name).mkdir()
        Summary().write(tmp_path / name, cases)
    counts = check.tally(sorted(tmp_path.glob("*/junit.xml")))
    line = check.closing_line(counts, 2.5)
    assert line.strip("=") == " 2 failed, 3 passed, 1 skipped, 1 xfailed, 2 error in 2.50s "


INNER = """
import os, signal, pytest

def test_pass(): print("said")

def test_fail(): assert 1 == 2

@pytest.fixture
def broken(): raise OSError(2, "gone")

def test_broken(broken): pass

@pytest.fixture
def leaky():
    yield
    raise OSError(2, "left")

def test_leaky(leaky): pass

@pytest.mark.rule("r1")
@pytest.mark.rule("r2")
def test_skip(): pytest.skip("no feature")

@pytest.mark.xfail(reason="known")
def test_known(): assert 0

@pytest.mark.xfail(reason="known", strict=True)
def test_fixed(): pass

@pytest.mark.xfail(reason="known", strict=False)
def test_fixed_too(): pass

@pytest.mark.timeout(0.05)
def test_slow(): signal.pause()
"""
CONFTEST = """
def pytest_runtest_logreport(report):
    if report.nodeid.endswith("::test_fail") and report.when == "call":
        report.kernel_complaints = [(7, "BUG: x"), (9, "WARNING: y")]
"""
RUNNER = """
import sys
from vm.guest.channel import Channel
from vm.guest.reporter import run
sys.exit(run(sys.argv[2:], Channel(int(sys.argv[1]), "N", "pytest")))
"""


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the plugin sends of a session with a case of every outcome."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "test_inner.py").write_text(INNER)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = rule(id)\n")
    with (folder / "stream").open("wb") as stream:
        done = subprocess.run(
            [
                *(sys.executable, "-c", RUNNER, str(stream.fileno())),
                *("-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)),
            ],
            cwd=folder,
            pass_fds=[stream.fileno()],
            env={**os.environ, "PYTHONPATH": str(paths.ROOT), "PYTEST_ADDOPTS": ""},
            capture_output=True,
            check=False,
        )
    assert done.returncode == 1, done.stdout.decode()
    records = Records("N")
    records.feed((folder / "stream").read_bytes())
    assert records.lost == 0
    return records


def test_the_plugin_reports_every_outcome(inner: Records) -> None:
    found = {name.partition("::")[2]: case for name, case in inner.results.items()}
    assert {
        name: (case.outcome, case.reason.partition("\n")[0]) for name, case in found.items()
    } == {
        "test_pass": ("passed", ""),
        "test_fail": ("failed", "assert 1 == 2"),
        "test_broken": ("error", "FileNotFoundError: [Errno 2] gone"),
        "test_leaky": ("error", "FileNotFoundError: [Errno 2] left"),
        "test_skip": ("skipped", "no feature"),
        "test_known": ("xfailed", "known"),
        "test_fixed": ("failed", "[XPASS(strict)] known"),
        "test_fixed_too": ("xpassed", "known"),
        "test_slow": ("timeout", "Failed: Timeout (>0.05s) from pytest-timeout."),
    }


def test_the_plugin_reports_what_was_collected_before_it_runs(inner: Records) -> None:
    assert inner.collected == list(inner.results)
    assert inner.running is None


def test_the_plugin_sends_markers_output_and_the_long_text(inner: Records) -> None:
    found = {name.partition("::")[2]: case for name, case in inner.results.items()}
    assert sorted(found["test_skip"].markers["rule"]) == ["r1", "r2"]
    assert found["test_pass"].sections["Captured stdout call"] == "said\n"
    assert "def test_fail(): assert 1 == 2" in found["test_fail"].text
    assert found["test_slow"].duration > 0.04


def test_the_plugin_sends_what_the_kernel_said(inner: Records) -> None:
    found = {name.partition("::")[2]: case.complaints for name, case in inner.results.items()}
    assert found["test_fail"] == ["BUG: x", "WARNING: y"]
    assert found["test_pass"] == []
