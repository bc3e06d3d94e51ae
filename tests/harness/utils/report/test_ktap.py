# SPDX-License-Identifier: GPL-2.0-only
"""KTAP as text: its form for each outcome, and nothing in it that a reader takes for more."""

from __future__ import annotations

import pytest

from tests.harness.helpers.cases import CASES
from tests.utils.report import ktap
from tests.utils.report.case import Case


def test_each_outcome_has_its_ktap_form() -> None:
    lines = ktap.document(CASES).splitlines()
    assert lines == [
        "TAP version 13",
        "1..8",
        "ok 1 tests/a/test_x.py::test_pass # time=250ms",
        "# | E  no",
        "not ok 2 tests/a/test_x.py::test_fail[a/b] # time=0ms",
        "# | trace",
        "not ok 3 tests/a/test_x.py::T::test_error # ERROR OSError: gone",
        "not ok 4 tests/a/test_x.py::test_slow # TIMEOUT Timeout (>1 s) in call",
        "ok 5 tests/a/test_x.py::test_skip # SKIP no / feature",
        "ok 6 tests/a/test_x.py::test_known # XFAIL bug 1",
        "ok 7 tests/a/test_x.py::test_fixed # XPASS bug 2",
        "# | [XPASS(strict)] bug 3",
        "not ok 8 tests/a/test_x.py::test_strict # XPASS bug 3",
        "# Totals: pass:1 fail:2 xfail:1 xpass:1 skip:1 error:2",
    ]


def test_a_lost_run_bails_out_before_the_totals() -> None:
    lines = ktap.document(CASES[:1], "Kernel panic\nin x").splitlines()
    assert lines[-2:] == [
        "Bail out! Kernel panic in x",
        "# Totals: pass:1 fail:0 xfail:0 xpass:0 skip:0 error:0",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "not ok 3 x",
        "ok 3 # SKIP y",
        "x SKIP: y",
        "[FAIL] y",
        "a FAIL: b",
        "TAP version 13",
        "1..3",
        "[    9.9] reboot: System halted",
        "[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs",
    ],
)
def test_a_diagnostic_never_reads_as_a_result(text: str) -> None:
    (line,) = ktap.diagnostics(text)
    assert line.startswith("# | ")
    body = line.removeprefix("# ")
    assert not body.startswith(("ok", "not ok", "TAP", "1.."))
    ends = ("reboot: System halted", "not syncing: VFS:")
    for token in ("# SKIP", "SKIP:", "[FAIL]", " FAIL:", "# not ok", *ends):
        assert token not in line


def test_names_have_one_line_and_no_hash() -> None:
    (name,) = ktap.unique_names(["a\nb # SKIP\x1b[0m\x07"]).values()
    assert name == "a b / SKIP?"
    (line,) = ktap.result(1, name, Case("", "passed"))
    assert line == "ok 1 a b / SKIP? # time=0ms"
