# SPDX-License-Identifier: GPL-2.0-only
"""Measures a plan in rounds: in each, every method has its turn at every point.

So what changes on the machine in the meantime changes for all methods alike, and what is compared
was measured within a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench import machine
from bench.layout import Layout
from bench.methods import METHODS, NOTHING, Method
from bench.plan import READING, WATCHED, Plan, Point
from bench.readers import READERS, absent
from bench.results import Facts, Latency, Results
from bench.sleepers import sleeping
from bench.stats import percentile
from bench.work import Container, Done, Job, too_old
from bench.workers import Workers, WorkersFailed

#: A slow point gets as many rounds, whatever they take.
_FEWEST_ROUNDS = 3
#: Looks at a container's mounts: what others make in the meantime must not count.
_LOOKS = 3

#: Is told how much is done, as a part of one, and what is being done.
Progress = Callable[[float, str], None]


def chosen(plan: Plan) -> list[Method]:
    """Return the methods of the plan."""
    return [METHODS[letter] for letter in plan.methods or METHODS]


@dataclass
class _Course:
    """A point under way."""

    point: Point
    workers: Workers
    letters: Sequence[str]
    #: Seconds, over all methods and rounds.
    budget: float
    spent: float = 0.0
    rates: dict[str, list[float]] = field(default_factory=dict)
    latencies: dict[str, list[int]] = field(default_factory=dict)

    def round(self, number: int, seconds: float) -> None:
        """Give each method one turn; who begins changes from round to round."""
        if self.spent >= self.budget and number >= _FEWEST_ROUNDS:
            return
        with sleeping(self.point.tasks):
            self._turns(number, seconds)

    def _turns(self, number: int, seconds: float) -> None:
        first = number % len(self.letters)
        for letter in (*self.letters[first:], *self.letters[:first]):
            done = [
                one
                for one in self.workers.work(self.point.jobs(letter, seconds))
                if isinstance(one, Done)
            ]
            self.spent += max(one.seconds for one in done)
            if self.point.mode in READING:
                done = done[:1]
            if self.point.mode in WATCHED:
                self.latencies.setdefault(letter, []).extend(done.pop().latencies)
            rate = sum(one.count / one.seconds for one in done)
            self.rates.setdefault(letter, []).append(_rounded(rate))


def measure(plan: Plan, progress: Progress) -> Results:
    """Measure *plan* on the running kernel.

    :raises WorkersFailed: it cannot be done here, or a method failed.
    """
    if reason := too_old():
        raise WorkersFailed(reason)
    facts = {m.letter: Facts(m.letter, m.name, m.title, m.calls, m.absent()) for m in chosen(plan)}
    results = Results(machine.facts(), plan, facts, {letter: absent(letter) for letter in READERS})
    points = plan.points()
    with ExitStack() as stack:
        workers = _all_workers(plan, points, stack, progress)
        _look(results, workers[plan.layout(plan.base)])
        courses = []
        for point in points:
            # To read a table takes nothing besides.
            base = [] if point.mode in READING else [NOTHING.letter]
            letters = [*base, *results.letters(point)]
            budget = plan.seconds * len(letters)
            courses.append(_Course(point, workers[plan.layout(point)], letters, budget))
        for number in range(plan.rounds):
            for at, course in enumerate(courses):
                part = (number + at / len(courses)) / plan.rounds
                progress(part, f"round {number + 1} of {plan.rounds}")
                course.round(number, plan.seconds / plan.rounds)
    for course in courses:
        results.rates[course.point] = course.rates
        if course.latencies:
            results.latencies[course.point] = {
                letter: _latency(values) for letter, values in course.latencies.items()
            }
    return results


def _all_workers(
    plan: Plan, points: Sequence[Point], stack: ExitStack, progress: Progress
) -> dict[Layout, Workers]:
    """The processes of each ground that is needed."""
    sizes: dict[Layout, int] = {}
    for point in points:
        layout = plan.layout(point)
        sizes[layout] = max(sizes.get(layout, 0), point.workers)
    workers = {}
    for layout, size in sizes.items():
        progress(0, f"mounting {layout.table}")
        workers[layout] = stack.enter_context(Workers(layout, size))
    return workers


def _look(results: Results, workers: Workers) -> None:
    """See that each method makes what it should, and count the mounts."""
    for letter in results.present:
        looks = [workers.work([Job("look", letter)])[0] for _ in range(_LOOKS)]
        found = [look for look in looks if isinstance(look, Container)]
        results.methods[letter].created = min(look.created for look in found)
        results.methods[letter].mounts = found[0].mounts


def _rounded(value: float) -> float:
    """To five digits, which is more than a measurement has."""
    return float(f"{value:.5g}")


def _latency(nanoseconds: Sequence[int]) -> Latency:
    median, p99 = (_rounded(percentile(nanoseconds, percent) / 1000) for percent in (50, 99))
    return Latency(median, p99, len(nanoseconds))
