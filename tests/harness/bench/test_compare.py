# SPDX-License-Identifier: GPL-2.0-only
"""Two kernels compared, from results made up."""

from __future__ import annotations

from random import Random

import pytest

from bench.cli import asked_for, parsed
from bench.compare import WORDS, compare, pairs_needed, report
from bench.plan import Plan, Point
from bench.results import Results
from tests.harness.helpers.bench_results import results

PLAN = asked_for(parsed(WORDS))
POINT = Point("calls", 30)


def boots(random: Random, count: int, slower: float = 1.0) -> list[Results]:
    """*count* boots: each is so much faster or slower than the others, all its rounds alike; (c) is
    *slower*."""
    found = [results(PLAN, "") for _ in range(count)]
    for one in found:
        for rates in one.rates.values():
            for letter in rates:
                factor = random.lognormvariate(0, 0.03) * (slower if letter == "c" else 1)
                rates[letter] = [rate / factor for rate in rates[letter]]
    return found


def worse(random: Random, slower: float, percent: float) -> set[tuple[str, int, str]]:
    compared = compare(
        list(zip(boots(random, 14), boots(random, 14, slower), strict=True)),
    )
    return {(one.point.mode, one.point.table, one.letter) for one in compared if one.worse(percent)}


@pytest.mark.parametrize("seed", range(20))
def test_the_same_is_not_worse(seed: int) -> None:
    """Whatever a boot does to all its rounds, in twenty tries."""
    assert worse(Random(seed), 1.0, 1) == set()


def test_disturbed_rounds_do_not_count() -> None:
    """Of a boot the fastest round is taken: what disturbs a machine makes nothing faster."""
    pairs = [(results(PLAN), results(PLAN)) for _ in range(14)]
    for _, second in pairs:
        for rates in second.rates.values():
            rates["c"][1:] = [rate / 5 for rate in rates["c"][1:]]
    assert {one.times.median for one in compare(pairs)} == {1}


def test_a_fifth_more_is_worse() -> None:
    """The method is found at both sizes of table, in both modes, and no other."""
    assert worse(Random(1), 1.2, 5) == {
        (mode, table, "c") for mode in ("calls", "handle") for table in (30, 1000)
    }


def test_all_intervals_together_have_the_confidence() -> None:
    """With fewer boots than that takes, the report says that they have none."""
    needed = pairs_needed(PLAN, 6)
    assert needed == 10  # of at most 24 ratios 2 ** -9 each: below 5 %
    for count, together in ((needed, True), (needed - 2, False)):
        compared = compare([(one, one) for one in boots(Random(0), count)])
        lines = list(report(compared, count))
        assert len(lines) == 2 + 18
        assert ("for all lines together has a confidence of 9" in lines[1]) is together
        assert lines[2] == "a minijail    1.00 1.00-1.00    calls"
        assert lines[8].split()[-2:] == ["table", "1000"]
        assert [line[0] for line in lines[14:]] == ["c", "d", "e"] * 2


def test_bystanders_are_compared_by_their_latency() -> None:
    """Their median, as the number of containers says nothing of them."""
    plan = Plan(modes=("forker",), tasks=(0, 10), tables=(30,), methods=("a", "c"))
    first, second = results(plan), results(plan)
    point = Point("forker", 30, tasks=10)
    second.latencies[point]["a"].median *= 3
    found = {(one.point, one.letter): one.times.median for one in compare([(first, second)])}
    assert found.pop((point, "a")) == pytest.approx(3)
    assert set(found.values()) == {1}


def test_what_cannot_be_compared() -> None:
    """Other plans, or no method that both have."""
    with pytest.raises(ValueError, match="not asked for the same"):
        compare([(results(PLAN), results(Plan()))])
    with pytest.raises(ValueError, match="no method in common"):
        compare([(results(PLAN, "ab"), results(PLAN, "cdef"))])
