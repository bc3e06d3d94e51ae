# SPDX-License-Identifier: GPL-2.0-only
"""The few statistics there are: medians, their spread, and intervals of confidence.

All are of ranks, as a busy machine's outliers must not count. The interval is the one of the sign
test: so many of n values lie below their median as heads among n tossed coins, whatever the
distribution. Nothing is drawn at random, so that the same numbers always give the same report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from statistics import median, quantiles

#: Wanted probability that an interval holds the true median.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A sample in numbers, in its own unit."""

    median: float
    #: Quartiles; both the median when there is one value.
    low: float
    high: float
    count: int

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles, as a part of the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class Interval:
    """A median, and between what it lies."""

    median: float
    low: float
    high: float
    #: Probability that low and high enclose the true median. Less than what was wanted only
    #: where there are fewer than six values, and the interval is their range.
    confidence: float


def summary(values: Sequence[float]) -> Summary:
    """Median and quartiles.

    :raises statistics.StatisticsError: there is no value.
    """
    middle = median(values)
    if len(values) == 1:
        return Summary(middle, middle, middle, 1)
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Summary(middle, low, high, len(values))


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the smallest value that so many percent of the values do not exceed (the nearest
    rank)."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Return the median, with the narrowest interval of ranks that has the wanted *confidence*."""
    found, count = sorted(values), len(values)
    # P(at most `cut` values below the median), as a number of 2**count cases.
    cut, tail = 0, 1
    while (tail + comb(count, cut + 1)) * 2 <= (1 - confidence) * 2**count:
        cut += 1
        tail += comb(count, cut)
    return Interval(median(found), found[cut], found[-1 - cut], 1 - 2 * tail / 2**count)


def ratio(
    values: Sequence[float], reference: Sequence[float], confidence: float = CONFIDENCE
) -> Interval:
    """Return how many times *reference* the values are: the quotients of what was measured side by
    side.

    :raises ValueError: the two have not the same length.
    """
    quotients = [value / other for value, other in zip(values, reference, strict=True)]
    return interval(quotients, confidence)
