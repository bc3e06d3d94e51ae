# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark as a program, on the running kernel: all of it, as short as it gets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cli import main
from bench.methods import METHODS
from bench.plan import READING, WATCHED, Point
from bench.results import load

SHORT = (
    "--seconds",
    "0.001",
    "--rounds",
    "1",
    "--creators",
    "1,2",
    "--depths",
    "0,2",
    "--tasks",
    "0,9",
)


def test_everything(scratch: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Every method the kernel has is measured at every point; the process stays where it was, and
    has no child left."""
    file = scratch / "results.json"
    before = os.stat("/proc/self/ns/mnt")

    status = main(["--tables", "1,8", "--siblings", "0", *SHORT, "--json", str(file)])

    printed = capfd.readouterr()
    assert (status, printed.err) == (0, "")
    assert os.path.samestat(before, os.stat("/proc/self/ns/mnt"))
    with pytest.raises(ChildProcessError):
        os.wait()
    results = load(file.read_text())
    assert list(results.methods) == list(METHODS)
    assert list(results.rates) == results.plan.points()
    for point, rates in results.rates.items():
        assert [*rates] == ["-"] * (point.mode not in READING) + results.letters(point)
    assert "m" in results.letters(Point("reader"))
    assert all(
        len(rate) == 1 and rate[0] > 0
        for point, rates in results.rates.items()
        if point.mode not in WATCHED
        for rate in rates.values()
    )
    mounting = {Point("bystander", 1), Point("bystander", 8)}
    assert set(results.latencies) == {*mounting, Point("forker", 1), Point("forker", 1, tasks=9)}
    absent = [letter for letter, method in METHODS.items() if method.absent()]
    assert sorted({*results.present, *absent}) == list(METHODS)
    assert [line[0] for line in printed.out.splitlines() if " absent: " in line] == absent
