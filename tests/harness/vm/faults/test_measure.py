# SPDX-License-Identifier: GPL-2.0-only
"""Measuring faults, with a User-Mode Linux that is a script: what is noticed, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.helpers.faulty import fault, played_kernel
from vm.errors import Problem
from vm.faults import measure
from vm.faults.catalogue import MECHANICAL, Fault
from vm.faults.measure import Campaign, Trial
from vm.faults.results import Baseline, Result
from vm.kernel.image import Kernel

USUAL = Baseline("7.9.1", ("t.py::one", "t.py::two"), ("t.py::four",), 1.0)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What was booted: number, and pytest's arguments."""
    return tmp_path / "log"


@pytest.fixture
def kernel(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that plays."""
    return played_kernel(tmp_path, log, monkeypatch)


def measured(kernel: Kernel, *faults: Fault, jobs: int = 2) -> dict[str, Result]:
    trials = [Trial(one, kernel, int(one.id[1:]), not one.selection) for one in faults]
    found: dict[str, Result] = {}
    Campaign(
        trials, jobs, lambda _, result: found.update({result.fault: result}), baseline=USUAL
    ).work()
    return found


def test_the_cases_of_the_rule_come_first_and_all_where_these_see_nothing(
    kernel: Kernel, log: Path
) -> None:
    found = measured(kernel, fault(1), fault(2), fault(3), jobs=1)
    asked = [(line.split()[0], "--rule=K1" in line) for line in log.read_text().splitlines()]
    assert asked == [("1", True), ("2", True), ("2", False), ("3", True), ("3", False)]
    assert [(one.how, one.whole) for one in found.values()] == [
        ("cases", False),
        ("cases", True),
        ("", True),
    ]
    assert found["f1"].cases == ("t.py::two",)  # and not the one that always fails
    assert found["f1"].line == "expected EPERM"


def test_crashes_and_kernels_that_do_not_boot_are_noticed(kernel: Kernel) -> None:
    found = measured(kernel, fault(4), fault(6))
    assert found["f4"].how == "crash"
    assert found["f4"].cases == ("t.py::two",)
    assert "Kernel panic - not syncing: crash" in found["f4"].line
    assert found["f6"].how == "no boot"


def test_where_nothing_happens_any_more_is_noticed(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_STALL", 0.5)
    found = measured(kernel, fault(5))
    assert (found["f5"].how, found["f5"].line) == (
        "hang",
        "nothing happens any more in t.py::two",
    )


def test_a_kernel_that_does_not_take_the_number_is_no_evidence(kernel: Kernel) -> None:
    with pytest.raises(Problem, match="did not take planted=7"):
        measured(kernel, fault(7))


def test_what_was_nobodys_idea_is_not_followed_for_long(kernel: Kernel, log: Path) -> None:
    measured(kernel, fault(3, rule="", kind=MECHANICAL))
    (line,) = log.read_text().splitlines()
    assert "--maxfail=" in line
    assert "--rule" not in line


def test_cases_that_fail_without_a_fault_notice_nothing(kernel: Kernel) -> None:
    usual = measure.baseline(kernel, 2, lambda _: None)
    assert usual == replace(USUAL, seconds=usual.seconds)  # without that of an open finding


def test_the_hosts_trouble_is_no_evidence_and_ends_nothing(kernel: Kernel, log: Path) -> None:
    found: list[str] = []
    trials = [Trial(fault(8), kernel, 8, False), Trial(fault(1), kernel, 1, False)]
    campaign = Campaign(trials, 1, lambda _, result: found.append(result.fault), baseline=USUAL)
    campaign.work()
    assert found == ["f1"]
    assert campaign.troubles == {"f8": "the guest could not be started: no room"}
    assert log.read_text().count("8 ") == 3
