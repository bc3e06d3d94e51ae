# SPDX-License-Identifier: GPL-2.0-only
"""What is printed of the cases that failed, in place of pytest's own words."""

from __future__ import annotations

from tests.utils.report.case import Case
from vm.report.failures import lines, without_failures

TEXT = """
=================================== FAILURES ===================================
____________________________________ test_3 ____________________________________
>   def test_3(): assert 3 != 3
E   assert 3 != 3
=============================== warnings summary ===============================
a warning
============================= slowest 3 durations ==============================
0.1s call
=========================== short test summary info ============================
SKIPPED [1] t.py:1: not here
FAILED t.py::test_3 - assert 3 != 3"""


def test_pytests_words_of_failures_are_left_out_and_all_others_stay() -> None:
    said = without_failures(TEXT)
    assert "warnings summary" in said
    assert "slowest 3 durations" in said
    assert "SKIPPED [1] t.py:1: not here" in said
    assert "test_3" not in said
    assert "FAILURES" not in without_failures(f"\x1b[1m{TEXT.strip()}")


def test_a_failure_is_a_line_and_many_are_not_all_shown() -> None:
    happened = {"call": "open_tree('/a')", "expected": "EINVAL", "came": "succeeded"}
    rule = {"rule": ["K1"]}
    bad = [Case(f"t.py::{n}", "failed", markers=rule, deviation=happened) for n in range(12)]
    said = list(lines([Case("t.py::good", "passed"), *bad], 100))
    assert said[0] == "FAILED t.py::0 - open_tree('/a'): expected EINVAL, succeeded"
    assert said[10] == "... and 2 more (all with -v, and in results.ktap)"
    assert len(said) == 11


def test_what_checks_no_rule_is_shown_with_its_story() -> None:
    said = list(lines([Case("t.py", "error", "SyntaxError", text="one\ntwo")], 100))
    assert said == ["ERROR t.py - SyntaxError", "one", "two"]
    assert not list(lines([Case("t.py::a", "error", "did not run", unreached=True)], 100))
