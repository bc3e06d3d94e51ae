# SPDX-License-Identifier: GPL-2.0-only
"""The statistics of the benchmark, against what can be counted out."""

from __future__ import annotations

from itertools import product
from math import isclose
from statistics import StatisticsError

import pytest

from bench.stats import Interval, Summary, interval, percentile, ratio, summary


def test_summary() -> None:
    """Median and quartiles; the spread is half their distance, as a part of the median."""
    found = summary([4.0, 1.0, 3.0, 2.0, 5.0])
    assert found == Summary(3.0, 2.0, 4.0, 5)
    assert isclose(found.spread, 1 / 3)
    assert summary([7.0]) == Summary(7.0, 7.0, 7.0, 1)
    assert summary([7.0]).spread == 0
    assert summary([0.0, 0.0]).spread == 0
    with pytest.raises(StatisticsError):
        summary([])


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (1, 1), (50, 50), (99, 99), (100, 100)])
def test_percentile(percent: int, expected: int) -> None:
    """The nearest rank: of 1 to 100 the n-th percentile is n."""
    assert percentile(list(range(100, 0, -1)), percent) == expected
    assert percentile([5], percent) == 5


@pytest.mark.parametrize("count", range(1, 13))
def test_interval_has_its_confidence(count: int) -> None:
    """Over all the ways in which so many values can lie about the true median, each as likely as
    the other, the interval encloses it as often as it says; and a narrower one would do so less
    often than is wanted."""

    def enclosed(drop: int) -> float:
        """How often the values, but for the *drop* lowest and highest, enclose the median 0."""
        ways = [sorted(values) for values in product((-1, 1), repeat=count)]
        return sum(v[drop] < 0 < v[-1 - drop] for v in ways) / len(ways)

    found = interval([float(value) for value in range(count)])
    drop = int(found.low)
    assert found.high == count - 1 - drop
    assert isclose(found.confidence, enclosed(drop))
    assert found.confidence >= 0.95 or drop == 0
    assert enclosed(drop + 1) < 0.95 if 2 * drop + 2 < count else True


def test_interval_of_ten() -> None:
    """From the second lowest to the second highest of ten: 97.9 %."""
    assert interval([5.0, 3.0, 9.0, 1.0, 2.0, 10.0, 4.0, 8.0, 7.0, 6.0]) == Interval(
        5.5, 2.0, 9.0, 1 - 22 / 1024
    )


def test_ratio_is_of_what_was_measured_together() -> None:
    """A machine that gets ten times as slow in the midst does not change what is compared."""
    reference = [100.0, 110.0, 90.0, 10.0, 11.0, 9.0]
    found = ratio([2 * value for value in reference], reference)
    assert (found.median, found.low, found.high) == (2.0, 2.0, 2.0)
    with pytest.raises(ValueError, match="longer"):
        ratio([1.0], [1.0, 2.0])
