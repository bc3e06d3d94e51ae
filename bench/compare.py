# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels compared, from results of boots in turns.

A boot is one value: where a kernel's memory comes to lie makes all its rounds faster or slower. It
is that of the fastest round, as what disturbs a machine only ever makes one slower. The interval of
each ratio is the sign test's over the pairs of boots, and so wide that *all* of them together hold
the true ratios with the usual confidence (Bonferroni): else one of many ratios would look worse
every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from math import ceil, log2

from bench.plan import HOLLOW, WATCHED, Plan, Point
from bench.report import label, ratio_text
from bench.results import Results
from bench.stats import CONFIDENCE, Interval, ratio

#: What is measured when nothing is asked for: enough to find a slower copy of a mount tree, a
#: slower namespace and a slower system call, and few ratios, which take few boots. A container is
#: entered and left as well, which hides half of what its handle alone shows.
WORDS = (
    *("--modes", "calls,handle", "--tables", "30,1000", "--creators", "1", "--depths", "0"),
    *("--siblings", "0", "--tasks", "0", "--seconds", "0.25", "--rounds", "5"),
)


@dataclass(frozen=True)
class Compared:
    """A method at a point: its cost on the second kernel, as many times that on the first."""

    point: Point
    letter: str
    times: Interval

    def worse(self, percent: float) -> bool:
        """Return whether the whole interval is past *percent*."""
        return self.times.low > 1 + percent / 100

    def __str__(self) -> str:
        told = [
            f"{field.name} {value}"
            for field in fields(Point)
            if (value := getattr(self.point, field.name)) != field.default and field.name != "mode"
        ]
        where = ", ".join([self.point.mode, *told])
        return f"{label(self.letter):<14}{ratio_text(self.times):<18}{where}"


def _confidence(count: int) -> float:
    """The confidence that each of *count* intervals must have."""
    return 1 - (1 - CONFIDENCE) / count


def pairs_needed(plan: Plan, methods: int) -> int:
    """Return how many pairs of boots it takes at least to decide about all ratios of *plan*."""
    points = [point for point in plan.points() if point.mode != HOLLOW]
    return 1 + ceil(log2(len(points) * methods / (1 - CONFIDENCE)))


def _cost(results: Results, point: Point, letter: str) -> float:
    """Microseconds: for a container in the fastest round, or the median of who stands by."""
    if point.mode in WATCHED:
        return results.latencies[point][letter].median
    return 1e6 / max(results.rates[point][letter])


def compare(pairs: Sequence[tuple[Results, Results]]) -> list[Compared]:
    """Return the ratios of *pairs* of boots, the second over the first.

    :raises ValueError: they are not of one plan, or have no method in common.
    """
    first = pairs[0][0]
    if any(one.plan != first.plan for pair in pairs for one in pair):
        raise ValueError("the boots were not asked for the same")
    wanted = [
        (point, letter)
        for point in first.plan.points()
        if point.mode != HOLLOW
        for letter in first.letters(point)
        if all(letter in one.letters(point) for pair in pairs for one in pair)
    ]
    if not wanted:
        raise ValueError("the kernels have no method in common")
    confidence = _confidence(len(wanted))
    found = []
    for point, letter in wanted:
        costs = [
            [_cost(one, point, letter) for one in kernel] for kernel in zip(*pairs, strict=True)
        ]
        found.append(Compared(point, letter, ratio(costs[1], costs[0], confidence)))
    return found


def report(compared: Sequence[Compared], pairs: int) -> Iterator[str]:
    """Tell of all ratios, line by line."""
    together = 1 - sum(1 - one.times.confidence for one in compared)
    yield f"Cost on B, as many times that on A, {pairs} boots of each: median and interval,"
    if together >= CONFIDENCE:
        yield f"which for all lines together has a confidence of {together:.0%}"
    else:
        yield "which is the range of what was measured: for a confidence it takes more boots"
    for one in compared:
        yield str(one)
