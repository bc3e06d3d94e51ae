# SPDX-License-Identifier: GPL-2.0-only
"""The results as text, in ninety columns where no series has more than five points."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from bench.methods import METHODS, NOTHING, REFERENCE
from bench.plan import AXES, Point
from bench.readers import MOUNTINFO, READERS
from bench.results import Results
from bench.stats import Interval, interval, summary
from bench.work import Way

_LABEL, _CELL = 12, 15
_MODES: dict[Way, str] = {
    "calls": "system calls alone (one process, which comes back each time)",
    "process": "with a process for each (clone without a copy, exit, wait)",
    "fork": "with a fork of Python for each (fork, exit, wait)",
    "handle": "made and closed again, entered by nobody",
}
_AXES = {
    "table": "by mounts in the caller's table",
    "creators": "by parallel creators",
    "depth": "by mounts below the root, one on the other",
    "siblings": "by mounts beside the root, on the same mount",
    "tasks": "by sleeping tasks besides",
}
#: Who stands by: what it does, and the axis.
_WATCHED: dict[Way, tuple[str, str]] = {
    "bystander": ("mount and umount", "table"),
    "forker": ("clone, exit and wait", "tasks"),
}
_READING: dict[Way, str] = {
    "reader": "nothing else going on",
    "reader-busy": "while another process mounts elsewhere",
}
#: What makes a container dearer: the most of it, the least, and one.
_GROWTH = {
    "table": ("the largest table", "the smallest", "mount"),
    "tasks": ("the most tasks", "the fewest", "task"),
}
_Cell = Callable[[Point, str], str]


def number(value: float) -> str:
    """Three significant digits, and all digits before the point."""
    return f"{value:.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2}f}"


def label(letter: str) -> str:
    """Return a method, or a reader, in a table."""
    return f"{letter} {(READERS.get(letter) or METHODS.get(letter, NOTHING)).name}"


def series(results: Results, mode: Way, axis: str) -> list[Point]:
    """Return the points along *axis*, where there is more than one, and they were measured."""
    points = results.plan.series(mode, axis)
    return points if len(points) > 1 else []


def _place(point: Point, axis: str) -> int:
    return int(getattr(point, axis))


def _row(name: str, cells: Sequence[str]) -> str:
    return (f"{name:<{_LABEL}}" + "".join(f"{cell:>{_CELL}}" for cell in cells)).rstrip()


def _table(points: Sequence[Point], axis: str, letters: Sequence[str], cell: _Cell) -> list[str]:
    head = _row("", [str(_place(point, axis)) for point in points])
    return [
        head,
        *(_row(label(letter), [cell(point, letter) for point in points]) for letter in letters),
    ]


def ratio_text(found: Interval | None) -> str:
    """Return a ratio and its interval, empty for none."""
    if found is None:
        return ""
    digits = 0 if found.high >= 100 else 1 if found.high >= 10 else 2
    return f"{found.median:.{digits}f} {found.low:.{digits}f}-{found.high:.{digits}f}"


def _rates(results: Results, mode: Way, axis: str) -> Iterator[str]:
    """Throughput along an axis, and what it is against the reference."""
    points = series(results, mode, axis)
    letters = results.letters(points[0]) if points else []
    if not letters:
        return

    def rate(point: Point, letter: str) -> str:
        found = summary(results.rates[point][letter])
        return f"{number(found.median)} ±{found.spread:.0%}"

    others = [letter for letter in letters if letter != REFERENCE]
    # In "calls" it is the loop's own part, see below.
    base = [NOTHING.letter] if mode in ("process", "fork") else []
    yield ""
    yield f"{'Handles' if mode == 'handle' else 'Containers'} per second, {_MODES[mode]},"
    yield f"{_AXES[axis]}: median, half the distance of the quartiles"
    yield from _table(points, axis, [*base, *letters], rate)
    if REFERENCE in letters and others:
        yield f"as many times as ({REFERENCE}) makes: median, {_confidence(results, points)}"
        yield from _table(points, axis, others, lambda p, x: ratio_text(results.speedup(p, x)))


def _confidence(results: Results, points: Sequence[Point]) -> str:
    found = [results.speedup(point, REFERENCE) for point in points]
    least = min(one.confidence for one in found if one)
    return f"{least:.0%} interval of confidence"


def _head(results: Results) -> Iterator[str]:
    facts, plan = results.machine, results.plan
    yield f"Linux {facts['release']} {facts['machine']}, {facts['version']}"
    model = f" ({facts['processor']})" if facts["processor"] else ""
    plural = "s" if facts["processors"] > 1 else ""
    yield f"{facts['processors']} processor{plural}{model}, Python {facts['python']}"
    if facts["lock_debugging"]:
        yield "The kernel debugs its locks: what follows says little about one that does not."
    if facts["user_namespace"]:
        yield "In a user namespace, as the caller has no CAP_SYS_ADMIN."
    yield (
        f"{'Shared' if plan.shared else 'Private'} mounts; {plan.rounds} rounds, in each"
        f" {plan.seconds / plan.rounds * 1000:.0f} ms for each method at each point."
    )


def _methods(results: Results) -> Iterator[str]:
    yield ""
    yield "System calls of each method, mounts made for a container, mounts left in it"
    for letter, facts in results.methods.items():
        row = f"{label(letter):<{_LABEL}}"
        if facts.absent:
            # The file has the reason in full.
            yield f"{row}  absent: {facts.absent.partition(' (')[0]}"
        else:
            yield f"{row}{len(facts.calls):>4}{facts.created:>7}{facts.mounts:>5}  {facts.title}"


def growth(results: Results, axis: str) -> dict[str, tuple[Interval, float]]:
    """Return what a larger table, or more tasks, do to a container's cost, by method: the cost
    with the largest as a multiple of that with the smallest, and microseconds for each mount or
    task between the two."""
    points = sorted(series(results, "calls", axis), key=lambda point: _place(point, axis))
    if not points:
        return {}
    first, last = points[0], points[-1]
    more = _place(last, axis) - _place(first, axis)
    found = {}
    for letter in results.present:
        # Round by round; a slow point may have fewer.
        pairs = list(zip(results.rates[first][letter], results.rates[last][letter], strict=False))
        each = [(1e6 / high - 1e6 / low) / more for low, high in pairs]
        found[letter] = interval([low / high for low, high in pairs]), median(each)
    return found


def _growth(results: Results, axis: str) -> Iterator[str]:
    found, (most, least, one) = growth(results, axis), _GROWTH[axis]
    if found:
        yield ""
        yield f"Cost of a container with {most}, as many times that with {least}:"
        yield f"median, interval of confidence; microseconds for each {one} more"
    for letter, (times, each) in found.items():
        yield _row(label(letter), [ratio_text(times), f"{round(each, 3) + 0.0:.3f}"])


def scaling(results: Results, mode: Way) -> dict[str, tuple[int, Interval]]:
    """Return up to how many creators throughput grows, by method, and what it is there as many
    times that of the fewest: more creators make more where the interval of the ratio says so."""
    points = sorted(series(results, mode, "creators"), key=lambda point: point.creators)
    found = {}
    for letter in results.present if points else ():
        rates = {point: results.rates[point][letter] for point in points}
        best = points[0]
        for point in points[1:]:
            if _over(rates[point], rates[best]).low > 1:
                best = point
        found[letter] = best.creators, _over(rates[best], rates[points[0]])
    return found


def _over(rates: Sequence[float], reference: Sequence[float]) -> Interval:
    """The ratio round by round; a slow point may have fewer."""
    return interval([one / other for one, other in zip(rates, reference, strict=False)])


def _scaling(results: Results) -> Iterator[str]:
    found = {mode: rows for mode in _MODES if (rows := scaling(results, mode))}
    if found:
        yield ""
        yield "Creators up to which all together make more, and how many times what the fewest make"
        yield _row("", [cell for mode in found for cell in (mode, "")])
    for letter in results.present if found else ():
        both = [rows[letter] for rows in found.values()]
        cells = [x for most, times in both for x in (str(most), ratio_text(times))]
        yield _row(label(letter), cells)


def _bystander(results: Results, mode: Way) -> Iterator[str]:
    what, axis = _WATCHED[mode]
    points = series(results, mode, axis)
    if not points:
        return

    def latency(point: Point, letter: str) -> str:
        found = results.latencies[point][letter]
        return f"{number(found.median)}/{number(found.p99)}"

    yield ""
    yield f"A bystander's {what} meanwhile, microseconds (median/99th percentile),"
    yield _AXES[axis]
    yield from _table(points, axis, [NOTHING.letter, *results.present], latency)


def _reading(results: Results, mode: Way) -> Iterator[str]:
    """How long it takes to read a whole table, and what that is against mountinfo."""
    points = series(results, mode, "table")
    if not points:
        return
    letters = results.letters(points[0])

    def time(point: Point, letter: str) -> str:
        found = summary([1e6 / rate for rate in results.rates[point][letter]])
        return f"{number(found.median)} ±{found.spread:.0%}"

    def times(point: Point, letter: str) -> str:
        return ratio_text(results.speedup(point, MOUNTINFO, letter))

    yield ""
    yield f"Microseconds to read a whole table of mounts, {_READING[mode]},"
    yield "by mounts in it: median, half the distance of the quartiles"
    yield from _table(points, "table", letters, time)
    yield f"as many times as ({MOUNTINFO}) takes: median, interval of confidence"
    yield from _table(points, "table", [x for x in letters if x != MOUNTINFO], times)


def _overhead(results: Results) -> Iterator[str]:
    shares = [(x, share) for x in results.present if (share := results.overhead(x))]
    if shares:
        yield ""
        yield "Python's part of the time of a container (calls): the loop, all up to the kernel"
    for letter, (loop, whole) in shares:
        yield _row(label(letter), [f"{loop:.2%}", f"{whole:.1%}"])


def report(results: Results) -> str:
    """Everything."""
    lines = [*_head(results), *_methods(results)]
    for mode in _MODES:
        for axis in AXES:
            lines += _rates(results, mode, axis)
    for axis in _GROWTH:
        lines += _growth(results, axis)
    lines += _scaling(results)
    for mode in _WATCHED:
        lines += _bystander(results, mode)
    for mode in _READING:
        lines += _reading(results, mode)
    lines += _overhead(results)
    return "\n".join(lines) + "\n"
