# SPDX-License-Identifier: GPL-2.0-only
"""What is measured: each axis alone, with the others at their base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from bench.layout import Layout
from bench.methods import NOTHING
from bench.work import Job, Way
from tests.utils import cgroups

#: What a run is about: the calls alone, in a process that is made for them, in a fork of Python for
#: comparison; the handle alone, which nobody enters; what the calls do to somebody else: to who
#: mounts, and to who makes processes; and reading the table, alone and while another mounts.
MODES: tuple[Way, ...] = (
    *("calls", "process", "fork", "handle", "bystander", "forker", "reader", "reader-busy"),
)
#: The modes in which somebody stands by, whose time is measured.
WATCHED: tuple[Way, ...] = ("bystander", "forker")
#: The modes that take a process without a copy, see bench.program.
BY_PROGRAM: tuple[Way, ...] = ("process", "forker", "reader", "reader-busy")
#: The modes in which a table is read, each by the readers in place of the methods.
READING: tuple[Way, ...] = ("reader", "reader-busy")
#: What the calls cost before they reach the kernel: measured with them.
HOLLOW: Final = "hollow"
#: What is varied: attributes of :class:`Point`.
AXES = ("table", "creators", "depth", "siblings", "tasks")
_AXES_OF: dict[Way, tuple[str, ...]] = {
    "calls": AXES,
    "process": AXES[:2],
    "fork": AXES[:1],
    "handle": AXES[:1],
    "bystander": AXES[:1],
    "forker": ("tasks",),
    "reader": AXES[:1],
    "reader-busy": AXES[:1],
}
#: The usual table of a small machine.
_BASE_TABLE = 30


@dataclass(frozen=True)
class Point:
    """Where all methods are measured, one after the other (see Layout for the mounts)."""

    mode: Way
    table: int = _BASE_TABLE
    depth: int = 0
    siblings: int = 0
    creators: int = 1
    #: Tasks that sleep meanwhile, besides those that the system has anyway.
    tasks: int = 0

    @property
    def workers(self) -> int:
        """How many processes it takes."""
        if self.mode in READING:
            return 2
        return self.creators + (self.mode in WATCHED)

    def jobs(self, letter: str, seconds: float) -> list[Job]:
        """Return what they are to do. Who stands by comes last, who reads first."""
        if self.mode in READING:
            mounting = [Job("bystander", NOTHING.letter, seconds)]
            return [Job(self.mode, letter, seconds), *mounting * (self.mode == "reader-busy")]
        if self.mode not in WATCHED:
            return [Job(self.mode, letter, seconds)] * self.creators
        watch = Job(self.mode, letter, seconds)
        # Where nothing is made, nobody makes it.
        if letter == NOTHING.letter:
            return [watch]
        return [*([Job("calls", letter, seconds)] * self.creators), watch]


def default_creators() -> tuple[int, ...]:
    """1, 2, 4 ... up to the processors the caller may use, and twice as many."""
    processors = cgroups.processors()
    powers = (1 << power for power in range(processors.bit_length()))
    return tuple(sorted({*powers, processors, 2 * processors}))


@dataclass(frozen=True)
class Plan:
    """What the command line asks for."""

    tables: tuple[int, ...] = (1, 30, 100, 1000, 10000)
    creators: tuple[int, ...] = field(default_factory=default_creators)
    depths: tuple[int, ...] = (0, 10, 100)
    siblings: tuple[int, ...] = (0, 100, 1000)
    tasks: tuple[int, ...] = (0, 100, 1000, 10000)
    modes: tuple[Way, ...] = MODES
    #: Letters; empty for all.
    methods: tuple[str, ...] = ()
    #: For each method at each point, over all rounds.
    seconds: float = 0.5
    rounds: int = 10
    shared: bool = False

    def series(self, mode: Way, axis: str) -> list[Point]:
        """Return the points of one mode along one axis, the others being at their base; none where
        that is not measured.

        What is mounted below or beside the root comes on top of the table.
        """
        if mode not in self.modes or axis not in _AXES_OF[mode]:
            return []
        base = replace(self.base, mode=mode)
        bare = base.table - base.depth - base.siblings
        match axis:
            case "table":
                return [replace(base, table=base.table - bare + size) for size in self.tables]
            case "creators":
                return [replace(base, creators=count) for count in self.creators]
            case "depth":
                bare += base.siblings
                return [replace(base, table=bare + depth, depth=depth) for depth in self.depths]
            case "siblings":
                bare += base.depth
                return [
                    replace(base, table=bare + count, siblings=count) for count in self.siblings
                ]
            case "tasks":
                return [replace(base, tasks=count) for count in self.tasks]
        raise ValueError(axis)

    @property
    def base(self) -> Point:
        """Where all axes are at their base, in mode "calls"."""
        table, depth = _base(self.tables, _BASE_TABLE), _base(self.depths, 0)
        siblings = _base(self.siblings, 0)
        creators = _base(self.creators, 1)
        tasks = _base(self.tasks, 0)
        return Point("calls", table + depth + siblings, depth, siblings, creators, tasks)

    @property
    def hollow(self) -> Point:
        """Where Python's own part is measured."""
        return replace(self.base, mode=HOLLOW)

    def points(self) -> list[Point]:
        """Return all points, each once."""
        found = []
        for mode in self.modes:
            for axis in AXES:
                found += self.series(mode, axis)
        if "calls" in self.modes:
            found.append(self.hollow)
        return list(dict.fromkeys(found))

    def layout(self, point: Point) -> Layout:
        """Return the ground a point takes."""
        return Layout(point.table, point.depth, point.siblings, self.shared)


def _base(values: Sequence[int], usual: int) -> int:
    return usual if usual in values else values[0]
