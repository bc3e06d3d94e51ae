# SPDX-License-Identifier: GPL-2.0-only
"""Results of the benchmark, from numbers made up."""

from __future__ import annotations

from bench.methods import METHODS
from bench.plan import READING, WATCHED, Plan
from bench.results import Facts, Latency, Results

MACHINE = {
    "release": "7.9.1",
    "version": "#1 SMP",
    "machine": "x86_64",
    "processors": 1,
    "processor": "",
    "python": "3.11.0",
    "lock_debugging": False,
    "user_namespace": False,
}
PLAN = Plan(
    tables=(1, 30, 1000), creators=(1, 2), depths=(0, 10), siblings=(0,), tasks=(0, 1000), rounds=6
)


def results(plan: Plan = PLAN, absent: str = "ef") -> Results:
    """(a) takes 100 us, one more for each mount and for ten tasks, (c) and the others 50 us; the
    machine is twice as slow in every other round. (e) and (f) are absent."""
    found = Results(
        MACHINE,
        plan,
        {
            letter: Facts(letter, method.name, method.title, method.calls, "")
            for letter, method in METHODS.items()
        },
    )
    for facts in found.methods.values():
        if facts.letter in absent:
            facts.absent = "kernel has none (the probe gave EINVAL)"
        else:
            facts.created, facts.mounts = 32, 1
    found.readers = {"m": "", "s": "", "n": "kernel has none"}
    for point in plan.points():
        if point.mode in READING:
            # 10 us, and 1 us a mount by mountinfo, 2 us by statmount.
            found.rates[point] = {
                letter: [1e6 / (10 + each * point.table) for _ in range(plan.rounds)]
                for letter, each in (("m", 1), ("s", 2))
            }
            continue
        cost = {
            "-": 0.1,
            **dict.fromkeys(found.present, 50.0),
            "a": 100.0 + point.table + point.tasks / 10,
        }
        if point.mode == "hollow":
            cost = dict.fromkeys(cost, 1.0)
        found.rates[point] = {
            letter: [1e6 / each / (1 + number % 2) for number in range(plan.rounds)]
            for letter, each in cost.items()
        }
        if point.mode in WATCHED:
            found.latencies[point] = {letter: Latency(12.345, 678.9, 100) for letter in cost}
    return found
