# SPDX-License-Identifier: GPL-2.0-only
"""What the benchmark measures, and in which order; without a kernel."""

from __future__ import annotations

from functools import partial

import pytest

from bench.calls import Call, Calls
from bench.layout import Layout
from bench.methods import METHODS
from bench.plan import WATCHED, Plan, Point, default_creators
from bench.readers import READERS, Table
from bench.work import Job
from tests.utils.uapi.statmount import MntIdReq

SMALL = Plan(tables=(1, 30), creators=(1, 4), depths=(0, 5), siblings=(0, 7), tasks=(0, 50))


def test_each_axis_alone() -> None:
    """Along an axis everything else is at its base; what is mounted below or beside the root comes
    on top of the table."""
    assert SMALL.base == Point("calls", 30)
    assert SMALL.series("calls", "table") == [Point("calls", 1), Point("calls", 30)]
    assert SMALL.series("calls", "creators") == [
        Point("calls", 30),
        Point("calls", 30, creators=4),
    ]
    assert SMALL.series("calls", "depth") == [Point("calls", 30), Point("calls", 35, depth=5)]
    assert SMALL.series("calls", "siblings") == [Point("calls", 30), Point("calls", 37, siblings=7)]
    assert SMALL.series("calls", "tasks") == [Point("calls", 30), Point("calls", 30, tasks=50)]
    assert SMALL.series("forker", "tasks") == [Point("forker", 30), Point("forker", 30, tasks=50)]


def test_points() -> None:
    """All series of all modes, each point once; what is not measured has no series."""
    points = SMALL.points()
    assert len(points) == len(set(points))
    assert [point.mode for point in points] == [
        *["calls"] * 6,
        *["process"] * 3,
        *["fork"] * 2,
        *["handle"] * 2,
        *["bystander"] * 2,
        *["forker"] * 2,
        *["reader"] * 2,
        *["reader-busy"] * 2,
        "hollow",
    ]
    assert SMALL.series("process", "depth") == []
    assert Plan(modes=("process",)).series("calls", "table") == []
    assert "hollow" not in {point.mode for point in Plan(modes=("process",)).points()}


def test_base_is_the_first_value_where_the_usual_is_not_asked_for() -> None:
    """Any value can be left out."""
    plan = Plan(tables=(500, 5), creators=(8, 2), depths=(3, 4), siblings=(9,))
    assert plan.base == Point("calls", 500 + 3 + 9, 3, 9, 8)
    assert plan.series("calls", "table")[1] == Point("calls", 5 + 3 + 9, 3, 9, 8)
    assert plan.series("calls", "depth")[1] == Point("calls", 500 + 4 + 9, 4, 9, 8)
    assert all(plan.layout(point).table > point.depth + point.siblings for point in plan.points())
    assert plan.layout(plan.base) == Layout(512, 3, 9)


def test_default_creators(monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of two up to the processors, all of them, and twice as many."""
    expected = {1: (1, 2), 2: (1, 2, 4), 6: (1, 2, 4, 6, 12), 8: (1, 2, 4, 8, 16)}
    for processors, creators in expected.items():
        monkeypatch.setattr("tests.utils.cgroups.processors", lambda count=processors: count)
        assert default_creators() == creators


def test_jobs() -> None:
    """A job for each creator, and one for who stands by; nothing is made by nobody."""
    calls = Job("calls", "c", 0.5)
    assert Point("calls", creators=3).jobs("c", 0.5) == [calls] * 3
    for mode in WATCHED:
        point = Point(mode, creators=2)
        assert (point.workers, point.jobs("c", 0.5)) == (3, [calls, calls, Job(mode, "c", 0.5)])
        assert point.jobs("-", 0.5) == [Job(mode, "-", 0.5)]


def test_who_reads_is_alone_or_beside_one_that_mounts() -> None:
    """Whatever the number of creators; and no method is part of it."""
    read = [Job("reader", "m", 0.5)]
    assert Point("reader", creators=3).jobs("m", 0.5) == read
    busy = Point("reader-busy", creators=3)
    assert busy.jobs("s", 0.5) == [Job("reader-busy", "s", 0.5), Job("bystander", "-", 0.5)]
    assert busy.workers == 2
    assert SMALL.series("reader", "table") == [Point("reader", 1), Point("reader", 30)]
    assert SMALL.series("reader", "tasks") == []


def _recorder(made: list[tuple[str, tuple[object, ...]]], name: str) -> Call:
    """A call that is only written down."""

    def call(*arguments: object) -> int:
        made.append((name, arguments))
        return len(made)

    return call


def test_readings_are_the_calls_they_are_said_to_be() -> None:
    """Each mount is asked for once, a full page of ids is followed by another, and the file is
    read to its end."""
    ids = tuple(range(100, 1124))
    table = Table(fd=9, ns_id=77, ids=ids, proc=8, reads=3)
    found: dict[str, list[tuple[str, tuple[object, ...]]]] = {}
    for letter, reader in READERS.items():
        reader.run(Calls(partial(_recorder, found.setdefault(letter, []))), table)
    assert [name for name, _ in found["m"]] == ["openat", "read", "read", "read", "close"]
    for letter, ns_fd, ns_id in (("s", 0, 0), ("n", 9, 77)):
        names = [name for name, _ in found[letter]]
        assert names == ["listmount"] * 3 + ["statmount"] * 1024
        requests = [arguments[0] for _, arguments in found[letter]]
        assert all(isinstance(request, MntIdReq) for request in requests)
        lists = [r for r in requests[:3] if isinstance(r, MntIdReq)]
        assert [(r.param, r.mnt_ns_fd, r.mnt_ns_id) for r in lists] == [
            (0, ns_fd, 0),
            (ids[511], ns_fd, 0),
            (ids[1023], ns_fd, 0),
        ]
        mounts = [r for r in requests[3:] if isinstance(r, MntIdReq)]
        assert [r.mnt_id for r in mounts] == [*ids]
        assert {(r.mnt_ns_fd, r.mnt_ns_id) for r in mounts} == {(0, ns_id)}


def test_sequences() -> None:
    """The methods are the calls they are said to be: as many, the ones that make the difference
    among them, and no descriptor is left open."""
    calls = {letter: method.calls for letter, method in METHODS.items()}
    assert [len(names) for names in calls.values()] == [13, 6, 3, 3, 6, 12]
    for letter, names in calls.items():
        assert ("unshare" in names) is ("pivot_root" in names) is (letter in "ab")
        opened = [name for name in names if name in ("open", "open_tree", "fsopen", "fsmount")]
        assert names.count("close") == len(opened)
    assert calls["c"] == calls["d"] == ["open_tree", "setns", "close"]
