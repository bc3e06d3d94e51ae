# SPDX-License-Identifier: GPL-2.0-only
"""Counts as lines to print: of each file, of each function."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vm.coverage.counts import Counts, Function, Line, Share, branches_taken, lines_run
from vm.coverage.patch import Judged

_HEAD = ("", "lines run", "branches taken", "functions entered")


def _rows(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells]).rstrip()


def _shares(lines: Iterable[Line]) -> tuple[str, str]:
    found = list(lines)
    return str(lines_run(found)), str(branches_taken(found))


def files(counts: Counts, names: Iterable[str]) -> Iterator[str]:
    """Yield a head, and a line for each of the files *names*."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for name in names:
        file = counts[name]
        entered = [function.count > 0 for function in file.functions.values()]
        lines = file.lines.values()
        rows.append((name, *_shares(lines), str(Share(sum(entered), len(entered)))))
    yield from _rows(rows)


def functions(counts: Counts, names: Iterable[str]) -> Iterator[str]:
    """Yield for each of the files *names* a head, and a line for each of its functions."""

    def place(item: tuple[str, Function]) -> int:
        return item[1].line

    for name in names:
        file = counts[name]
        rows: list[tuple[str, ...]] = [(name, *_HEAD[1:3])]
        for title, _ in sorted(file.functions.items(), key=place):
            rows.append((f"  {title}", *_shares(file.of(title).values())))
        yield from _rows(rows)


def patch(judged: Judged, revisions: str) -> Iterator[str]:
    """Yield what became of the lines of a patch."""
    left, total = len(judged.not_run), len(judged.run) + len(judged.not_run)
    yield f"{revisions}: of {total} added or changed lines of code {left} did not run"
    for one in judged.not_run:
        yield f"  {one}"
    for name in judged.uncounted:
        yield f"  {name}: not part of this kernel"
