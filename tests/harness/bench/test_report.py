# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's report and its file of results, from numbers made up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bench.methods import METHODS
from bench.plan import Plan
from bench.plot import NoPlot, plot
from bench.report import growth, number, report, scaling
from bench.results import load
from tests.harness.helpers.bench_results import MACHINE, results


def section(text: str, title: str) -> list[str]:
    """The lines of *text* from the one with *title* to the next empty one."""
    block = next(block for block in text.split("\n\n") if title in block)
    return block.splitlines()


def test_rates_and_ratios() -> None:
    """Medians by method and size of the table; what is compared is compared within a round."""
    lines = section(report(results()), "caller's table")
    assert lines[2].split() == ["1", "30", "1000"]
    rows = {line[0]: line.split()[2:] for line in lines[3:7]}
    assert list(rows) == ["a", "b", "c", "d"]
    assert rows["c"] == ["15000", "±33%"] * 3
    assert rows["a"][::2] == ["7426", "5769", "682"]
    (row,) = (line.split()[2:] for line in lines[7:] if line.startswith("c "))
    assert row == ["2.02", "2.02-2.02", "2.60", "2.60-2.60", "22.0", "22.0-22.0"]
    assert "97% interval" in lines[7]


def test_growth() -> None:
    """What a mount more costs, and what all of them do to the cost; of rounds that both sizes of
    table have."""
    made_up = results()
    largest = made_up.plan.series("calls", "table")[-1]
    del made_up.rates[largest]["a"][5:]
    found = growth(made_up, "table")
    times, each = found["c"]
    assert (times.median, times.low, times.high, each) == (1, 1, 1, 0)
    times, each = found["a"]
    assert (times.low, times.high) == pytest.approx((1100 / 101, 1100 / 101))
    assert each == pytest.approx(1)
    times, each = growth(made_up, "tasks")["a"]
    assert (times.median, each) == pytest.approx(
        (230 / 130, 0.15)
    )  # every other round takes twice as long
    assert growth(results(Plan(tables=(30,))), "table") == {}


def test_reading() -> None:
    """How long a whole table takes to read, and what that is against mountinfo; what the kernel
    cannot do is left out."""
    for title in ("nothing else going on", "while another process mounts"):
        head, by, sizes, *rows = section(report(results()), title)
        assert head.startswith("Microseconds to read a whole table of mounts")
        assert by.startswith("by mounts in it")
        assert sizes.split() == ["1", "30", "1000"]
        assert rows[0].split() == ["m", "mountinfo", "11.0", "±0%", "40.0", "±0%", "1010", "±0%"]
        assert rows[1].split()[2::2] == ["12.0", "70.0", "2010"]
        assert "as many times as (m) takes" in rows[2]
        assert rows[4].split()[2::2] == ["1.09", "1.75", "1.99"]
        assert len(rows) == 5


def test_scaling() -> None:
    """Throughput grows up to the creators from which on more of them do not make more, round by
    round; where it only differs from round to round it does not grow."""
    made_up = results(Plan(tables=(30,), creators=(1, 2, 4, 8), rounds=6))
    for point in made_up.plan.series("calls", "creators"):
        times = {1: 1.0, 2: 1.9, 4: 3.0, 8: 2.5}[point.creators]
        rates = made_up.rates[point]
        rates["c"] = [rate * times for rate in rates["c"]]
        if point.creators == 8:
            rates["d"] = [rate * (1.5 if at % 2 else 0.9) for at, rate in enumerate(rates["d"])]
    found = scaling(made_up, "calls")
    assert {letter: most for letter, (most, _) in found.items()} == {"a": 1, "b": 1, "c": 4, "d": 1}
    assert found["c"][1].median == pytest.approx(3)
    lines = section(report(made_up), "Creators up to which")
    assert lines[1].split() == ["calls", "process"]
    (row,) = (line for line in lines if line.startswith("c "))
    assert row.split()[2:] == ["4", "3.00", "3.00-3.00", "1", "1.00", "1.00-1.00"]
    assert scaling(results(Plan(creators=(2,))), "calls") == {}


def test_overhead() -> None:
    """The loop's part, and that of all there is but the kernel."""
    loop, whole = results().overhead("c") or (0, 0)
    assert (loop, whole) == pytest.approx((0.1 / 50, 1 / 50))
    lines = section(report(results()), "Python's part")
    assert lines[3].split() == ["c", "open_tree", "0.20%", "2.0%"]
    assert results(Plan(modes=("process",))).overhead("c") is None


def test_absent_methods_are_named_once() -> None:
    """With the reason; the tables are without them."""
    text = report(results())
    assert re.findall(r"(?m)^([ef]) .*$", text) == ["e", "f"]
    assert text.count("absent: kernel has none") == 2


def test_bystander() -> None:
    """Median and 99th percentile, also where nothing is made."""
    lines = section(report(results()), "bystander's mount")
    assert lines[3].split() == ["-", "nothing", *["12.3/679"] * 3]
    lines = section(report(results()), "bystander's clone")
    assert lines[1:3] == ["by sleeping tasks besides", f"{0:>27}{1000:>15}"]
    assert lines[3].split() == ["-", "nothing", *["12.3/679"] * 2]


def test_without_the_reference() -> None:
    """Nothing is compared where (a) was not asked for, or where there is nothing else."""
    for methods in (("c",), ("a",)):
        plan = Plan(methods=methods, tables=(1, 30))
        found = results(plan, "".join(letter for letter in METHODS if letter not in methods))
        assert "as many times as (a)" not in report(found)


def test_lines_are_of_a_screen() -> None:
    """Five points of a series fit into ninety columns."""
    plan = Plan(tables=(1, 30, 100, 1000, 10000))
    lines = report(results(plan, "")).splitlines()
    assert [line for line in lines if len(line) > 90] == []


def test_warnings() -> None:
    """A kernel that debugs its locks, and a caller without privilege, are told of."""
    found = results()
    assert "debugs" not in report(found)
    found.machine = {**MACHINE, "lock_debugging": True, "user_namespace": True}
    assert "The kernel debugs its locks" in report(found)
    assert "In a user namespace" in report(found)


@pytest.mark.parametrize(
    ("value", "text"), [(0.123, "0.12"), (9.994, "9.99"), (12.34, "12.3"), (1234.5, "1234")]
)
def test_number(value: float, text: str) -> None:
    """Three digits, or more before the point."""
    assert number(value) == text


def test_file_holds_everything() -> None:
    """What is written can be read again and gives the same report."""
    before = results()
    after = load(before.dump())
    assert after == before
    assert report(after) == report(before)


def test_file_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """How many processors the reader has does not matter."""
    found = results(Plan(tables=(1, 30)))
    text = report(found)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: set(range(64)))
    assert report(load(found.dump())) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[]", "no results"),
        ("{}", "no results"),
        ('{"schema": 99}', "schema 99, not 3"),
        (json.dumps({**json.loads(results().dump()), "plan": {"x": 1}}), "no results"),
        (json.dumps({**json.loads(results().dump()), "points": []}), "not all points"),
    ],
)
def test_other_files_are_refused(text: str, why: str) -> None:
    """With a reason, and as one kind of error."""
    with pytest.raises(ValueError, match=why):
        load(text)


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is said what is missing."""
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(NoPlot, match="pip install matplotlib"):
        plot(results(), tmp_path / "x.svg")


def test_plot(tmp_path: Path) -> None:
    """A picture in the format of the suffix, always the same from the same numbers."""
    pytest.importorskip("matplotlib")
    for name in ("one.svg", "two.svg", "one.png"):
        plot(results(), tmp_path / name)
    svg = (tmp_path / "one.svg").read_bytes()
    assert svg == (tmp_path / "two.svg").read_bytes()
    assert b"mounts in the caller's table" in svg
    assert b"sleeping tasks" in svg
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(NoPlot, match="one size of table"):
        plot(results(Plan(tables=(30,), tasks=(0,))), tmp_path / "three.svg")
    with pytest.raises(NoPlot, match="four"):
        plot(results(), tmp_path / "four.nothing")
