# SPDX-License-Identifier: GPL-2.0-only
"""The reports for other programs, and the plugin in the guest that they come from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.utils import ktap
from vm import artefacts, check, places
from vm.records import Case, Records

CASES = [
    Case("tests/a/test_x.py::test_pass", "passed", duration=0.25),
    Case("tests/a/test_x.py::test_fail[a#b]", "failed", "AssertionError: no", text="E  no"),
    Case("tests/a/test_x.py::T::test_error", "error", "OSError: gone", text="trace"),
    Case("tests/a/test_x.py::test_slow", "timeout", "Timeout (>1 s) in call"),
    Case("tests/a/test_x.py::test_skip", "skipped", "no # feature"),
    Case("tests/a/test_x.py::test_known", "xfailed", "bug 1"),
    Case("tests/a/test_x.py::test_fixed", "xpassed", "bug 2"),
]


def test_each_outcome_has_its_ktap_form() -> None:
    lines = artefacts.ktap_document(CASES, "").splitlines()
    assert lines == [
        "TAP version 13",
        "1..7",
        "ok 1 tests/a/test_x.py::test_pass # time=250ms",
        "# | E  no",
        "not ok 2 tests/a/test_x.py::test_fail[a/b] # time=0ms",
        "# | trace",
        "not ok 3 tests/a/test_x.py::T::test_error # ERROR OSError: gone",
        "not ok 4 tests/a/test_x.py::test_slow # TIMEOUT Timeout (>1 s) in call",
        "ok 5 tests/a/test_x.py::test_skip # SKIP no / feature",
        "ok 6 tests/a/test_x.py::test_known # XFAIL bug 1",
        "not ok 7 tests/a/test_x.py::test_fixed # XPASS bug 2",
        "# Totals: pass:1 fail:1 xfail:1 xpass:1 skip:1 error:2",
    ]


def test_a_lost_run_bails_out_before_the_totals() -> None:
    lines = artefacts.ktap_document(CASES[:1], "Kernel panic\nin x").splitlines()
    assert lines[-2:] == [
        "Bail out! Kernel panic in x",
        "# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0",
    ]


@pytest.mark.parametrize(
    "text",
    ["not ok 3 x", "ok 3 # SKIP y", "x SKIP: y", "[FAIL] y", "a FAIL: b", "TAP version 13", "1..3"],
)
def test_a_diagnostic_never_reads_as_a_result(text: str) -> None:
    (line,) = ktap.diagnostics(text)
    assert line.startswith("# | ")
    body = line.removeprefix("# ")
    assert not body.startswith(("ok", "not ok", "TAP", "1.."))
    for token in ("# SKIP", "SKIP:", "[FAIL]", " FAIL:", "# not ok"):
        assert token not in line


def test_names_have_one_line_and_no_hash() -> None:
    (line,) = ktap.result(1, ktap.Result("a\nb # SKIP", "passed"))
    assert line == "ok 1 a b / SKIP # time=0ms"


def junit(cases: list[Case], lost: str = "") -> ElementTree.Element:
    data = artefacts.junit(cases, {"release": "7.9", "cpus": 2}, "2026-01-02T03:04:05+00:00", lost)
    suite = ElementTree.fromstring(data).find("testsuite")
    assert suite is not None
    return suite


def test_each_outcome_has_its_junit_form() -> None:
    suite = junit(CASES)
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "2",
        "errors": "2",
        "skipped": "2",
    }
    kinds = [
        [(child.tag, child.get("type"), child.get("message")) for child in case]
        for case in suite.iter("testcase")
    ]
    assert kinds == [
        [],
        [("failure", None, "AssertionError: no")],
        [("error", "error", "OSError: gone")],
        [("error", "timeout", "Timeout (>1 s) in call")],
        [("skipped", "pytest.skip", "no # feature")],
        [("skipped", "pytest.xfail", "bug 1")],
        [("failure", None, "bug 2")],
    ]


def test_junit_names_are_pytests() -> None:
    names = [(case.get("classname"), case.get("name")) for case in junit(CASES).iter("testcase")]
    assert names[1] == ("tests.a.test_x", "test_fail[a#b]")
    assert names[2] == ("tests.a.test_x.T", "test_error")


def test_junit_carries_the_environment_and_why_a_run_was_lost() -> None:
    suite = junit(CASES, "panic")
    values = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert values == {"release": "7.9", "cpus": "2"}
    assert suite.findtext("system-err") == "panic"


def test_junit_holds_no_character_that_xml_forbids() -> None:
    case = Case(
        "x.py::y[\x00]", "failed", "a\x1b[31mb\x07", text="\ud800\uffff", sections={"o": "\x01"}
    )
    element = next(junit([case]).iter("testcase"))
    assert element.get("name") == "y[?]"
    failure = element.find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("ab?", "??")


def test_the_summary_names_the_rules_of_each_case() -> None:
    case = Case("x.py::y", "passed", markers={"rule": ["r1", "r2"], "upstream": ["u"]})
    text = artefacts.summary([case], {"verdict": "1 passed", "environment": {"release": "7.9"}})
    found = json.loads(text)
    assert found["environment"]["release"] == "7.9"
    assert found["cases"][0]["rules"] == ["r1", "r2"]
    assert found["cases"][0]["upstream"] == ["u"]


def test_the_closing_line_of_a_check_counts_every_report(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_bytes(artefacts.junit(CASES, {}, "", ""))
    (tmp_path / "b.xml").write_bytes(artefacts.junit(CASES[:1], {}, "", ""))
    counts = check.tally(sorted(tmp_path.iterdir()))
    line = check.closing_line(counts, 2.5)
    assert line.strip("=") == " 2 failed, 2 passed, 1 skipped, 1 xfailed, 2 error in 2.50s "


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
RUNNER = """
import sys
from vm.guest_channel import Channel
from vm.guest_report import run
sys.exit(run(sys.argv[2:], Channel(int(sys.argv[1]), "N", "pytest")))
"""


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the plugin sends of a session with a case of every outcome."""
    folder = tmp_path_factory.mktemp("inner")
    (folder / "test_inner.py").write_text(INNER)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = rule(id)\n")
    with (folder / "stream").open("wb") as stream:
        done = subprocess.run(
            [
                *(sys.executable, "-c", RUNNER, str(stream.fileno())),
                *("-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)),
            ],
            cwd=folder,
            pass_fds=[stream.fileno()],
            env={**os.environ, "PYTHONPATH": str(places.ROOT), "PYTEST_ADDOPTS": ""},
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
        "test_fixed": ("xpassed", "known"),
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
