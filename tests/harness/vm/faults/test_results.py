# SPDX-License-Identifier: GPL-2.0-only
"""The file of results: nothing measured is lost, and nothing stale is taken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vm.faults import page
from vm.faults.catalogue import HAND, MECHANICAL, Edit, Fault
from vm.faults.results import Baseline, Result, Results

HAND_MADE = Fault("a", "locks", HAND, (Edit("fs/x.c", "f", "x", "0"),), "s", ("K1",))
MADE = Fault("fs/x.c:f:never:y", "never", MECHANICAL, (Edit("fs/x.c", "f", "y | z", "0"),))
BASELINE = Baseline("7.9.1", ("t.py::one", "t.py::two", "t.py::three"), ("t.py::four",), 9.0)


def seen(fault: Fault, how: str = "cases", cases: tuple[str, ...] = ("t.py::one",)) -> Result:
    return Result(fault.id, fault.digest, how, cases, "expected EINVAL", False, 3, 1.5)


def test_a_second_start_knows_what_the_first_has_measured(tmp_path: Path) -> None:
    first = Results(tmp_path / "r", "kernel")
    first.add(BASELINE)
    first.add(seen(HAND_MADE))
    second = Results(tmp_path / "r", "kernel")
    assert second.baseline == BASELINE
    assert second.of(HAND_MADE) == seen(HAND_MADE)
    assert second.of(MADE) is None


def test_a_start_that_was_killed_costs_the_line_it_was_writing(tmp_path: Path) -> None:
    first = Results(tmp_path / "r", "kernel")
    first.add(seen(HAND_MADE))
    with (tmp_path / "r").open("a") as file:
        file.write('{"with": "kernel", "result": {"fau')
    second = Results(tmp_path / "r", "kernel")
    second.add(seen(MADE))
    third = Results(tmp_path / "r", "kernel")
    assert third.of(HAND_MADE)
    assert third.of(MADE)


def test_results_of_another_kernel_or_of_other_cases_are_not_taken(tmp_path: Path) -> None:
    Results(tmp_path / "r", "one").add(seen(HAND_MADE))
    assert Results(tmp_path / "r", "another").of(HAND_MADE) is None


def test_a_fault_that_was_changed_is_measured_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "r", "kernel")
    results.add(seen(HAND_MADE))
    changed = replace(HAND_MADE, edits=(Edit("fs/x.c", "f", "x", "1"),))
    assert results.of(changed) is None
    assert results.of(replace(HAND_MADE, sees="t", silent="why")) is not None


def test_the_page_has_shares_reasons_and_suspects() -> None:
    equivalent = replace(MADE, id="e", equivalent="nothing differs")
    silent = replace(MADE, id="q|q", silent="out of memory")
    pairs = [
        (HAND_MADE, seen(HAND_MADE)),
        (MADE, seen(MADE, "no boot", ())),
        (silent, seen(silent, "", ())),
        (equivalent, None),
    ]
    text = page.render(pairs, {"d": "overlaps a"}, BASELINE)
    assert "- written by hand: 1 of 1 (100.0%) noticed" in text
    assert "- mechanical: 1 of 2 (50.0%) noticed; 0 of 1 (0.0%) of those with which" in text
    assert "- marked as equivalent, and not counted: 1; not measured: 0" in text
    assert "| `q\\|q` | `y \\| z` -> `0` | out of memory |" in text
    assert "| `e` | nothing differs |" in text
    assert "| `a` | K1 | `t.py::one` | expected EINVAL |" in text
    assert page.suspects(pairs, BASELINE) == ["t.py::two", "t.py::three"]
    assert "2 of 3: each is a suspect" in text
