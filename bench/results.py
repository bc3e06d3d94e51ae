# SPDX-License-Identifier: GPL-2.0-only
"""What was measured, as the JSON file has it: a value per round, so that anything can be derived.

Throughput is in containers per second, over all creators, and in whole tables per second of one
reader; latencies are in microseconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from bench.methods import METHODS, NOTHING, REFERENCE
from bench.plan import READING, Plan, Point
from bench.stats import Interval, ratio

SCHEMA = 3


@dataclass
class Latency:
    """How long a bystander's mount and umount took, both together; or its fork, exit and wait."""

    median: float
    p99: float
    count: int


@dataclass
class Facts:
    """A method on this kernel."""

    letter: str
    name: str
    title: str
    #: Its system calls, in their order.
    calls: list[str]
    #: Why the kernel cannot do it; empty when it can.
    absent: str
    #: Mounts made for a container, and left in it, at the base. None when absent.
    created: int | None = None
    mounts: int | None = None


@dataclass
class Results:
    """Everything, by point and by a method's letter."""

    machine: dict[str, Any]
    plan: Plan
    methods: dict[str, Facts]
    #: Why the kernel cannot read a table in one of the ways, by the reader's letter; empty when it
    #: can.
    readers: dict[str, str] = field(default_factory=dict)
    rates: dict[Point, dict[str, list[float]]] = field(default_factory=dict)
    latencies: dict[Point, dict[str, Latency]] = field(default_factory=dict)

    @property
    def present(self) -> list[str]:
        """Letters of the methods that the kernel can do."""
        return [letter for letter, facts in self.methods.items() if not facts.absent]

    def letters(self, point: Point) -> list[str]:
        """Return letters of what is compared at *point*: methods, or readers of a table."""
        if point.mode in READING:
            return [letter for letter, absent in self.readers.items() if not absent]
        if point.mode == "handle":
            return [letter for letter in self.present if METHODS[letter].handle]
        return self.present

    def speedup(self, point: Point, letter: str, over: str = REFERENCE) -> Interval | None:
        """Return how many times as many containers as the method *over* makes, round by round."""
        rates = self.rates.get(point, {})
        if not rates.get(letter) or not rates.get(over):
            return None
        return ratio(rates[letter], rates[over])

    def overhead(self, letter: str) -> tuple[float, float] | None:
        """Return what the time of a container is Python's own: of the loop, and of all with the
        calls.

        Both as parts of one; None where that was not measured.
        """
        point = self.plan.hollow
        if point not in self.rates:
            return None
        hollow, calls = self.rates[point], self.rates[self.plan.base]
        rate = median(calls[letter])
        return rate / median(calls[NOTHING.letter]), rate / median(hollow[letter])

    def dump(self) -> str:
        """Return them as JSON."""
        points = [
            {
                **asdict(point),
                "per_second": self.rates.get(point, {}),
                "bystander_microseconds": {
                    letter: asdict(latency)
                    for letter, latency in self.latencies.get(point, {}).items()
                },
            }
            for point in self.rates
        ]
        document = {
            "schema": SCHEMA,
            "machine": self.machine,
            "plan": asdict(self.plan),
            "readers": self.readers,
            "methods": [asdict(facts) for facts in self.methods.values()],
            "points": points,
        }
        return json.dumps(document, separators=(",", ":")) + "\n"


def load(text: str) -> Results:
    """Return the results that :meth:`Results.dump` wrote.

    :raises ValueError: it is nothing of the kind, or of another version.
    """
    try:
        document = json.loads(text)
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, not {SCHEMA}")
        plan: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in document["plan"].items()
        }
        methods = [Facts(**facts) for facts in document["methods"]]
        by_letter = {m.letter: m for m in methods}
        results = Results(document["machine"], Plan(**plan), by_letter, document["readers"])
        for entry in document["points"]:
            rates = entry.pop("per_second")
            latencies = entry.pop("bystander_microseconds")
            point = Point(**entry)
            results.rates[point] = rates
            if latencies:
                results.latencies[point] = {k: Latency(**v) for k, v in latencies.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no results of this benchmark: {error!r}") from None
    if set(results.rates) != set(results.plan.points()):
        raise ValueError("not all points of its plan are there")
    return results
