# SPDX-License-Identifier: GPL-2.0-only
"""How often the lines and branches of a source ran."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Line:
    """A line that holds code: one without is not here."""

    #: The function that it is in; of code from a macro or an inlined function, that one.
    function: str
    count: int = 0
    #: How often each branch out of it was taken.
    branches: list[int] = field(default_factory=list)

    def add(self, other: Line) -> None:
        """Add the counts of the same line elsewhere: in another guest, or another object."""
        self.count += other.count
        if len(self.branches) == len(other.branches):
            self.branches = [a + b for a, b in zip(self.branches, other.branches, strict=True)]
        else:  # a header's, in two objects that were not compiled alike
            self.branches = max(self.branches, other.branches, key=len)


@dataclass
class Function:
    """A function: where its first line is, and how often it was entered."""

    line: int
    count: int = 0


@dataclass
class File:
    """A file of the source."""

    lines: dict[int, Line] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)

    def of(self, function: str) -> dict[int, Line]:
        """Return the lines of one function."""
        return {n: line for n, line in self.lines.items() if line.function == function}


#: By the path of the file in the source.
Counts = dict[str, File]


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    run: int
    all: int

    def __str__(self) -> str:
        percent = f"{100 * self.run // self.all:3d} %" if self.all else "    -"
        return f"{self.run}/{self.all} {percent}"


def lines_run(lines: Iterable[Line]) -> Share:
    """Return how many of *lines* ran."""
    found = [line.count > 0 for line in lines]
    return Share(sum(found), len(found))


def branches_taken(lines: Iterable[Line]) -> Share:
    """Return how many of the branches out of *lines* were taken."""
    found = [count > 0 for line in lines for count in line.branches]
    return Share(sum(found), len(found))


def from_gcov(document: Mapping[str, Any]) -> Counts:
    """Return what gcov says of one object: a document of `gcov --json-format`, version 1.

    The source's files alone, as the compiler was given them: relative to the folder it ran in.
    """
    top = Path(document["current_working_directory"])
    counts: Counts = {}
    for part in document["files"]:
        path = top.joinpath(part["file"])
        name = _normal(path, top)
        if not name:
            continue
        file = counts.setdefault(name, File())
        for one in part["functions"]:
            file.functions[one["name"]] = Function(one["start_line"], one["execution_count"])
        for one in part["lines"]:
            line = Line(
                one.get("function_name", ""),
                one["count"],
                [branch["count"] for branch in one["branches"]],
            )
            if (there := file.lines.get(one["line_number"])) is not None:
                there.count += line.count
                there.branches += line.branches
            else:
                file.lines[one["line_number"]] = line
    return counts


def _normal(path: Path, top: Path) -> str:
    """*path* relative to *top*, without following links; empty for one outside."""
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        else:
            parts.append(part)
    plain = Path(*parts)
    return str(plain.relative_to(top)) if plain.is_relative_to(top) else ""


def add(counts: Counts, more: Counts) -> None:
    """Add *more*, of another object or another guest, to *counts*."""
    for name, file in more.items():
        there = counts.setdefault(name, File())
        for number, line in file.lines.items():
            if number in there.lines:
                there.lines[number].add(line)
            else:
                there.lines[number] = line
        for title, function in file.functions.items():
            if title in there.functions:
                there.functions[title].count += function.count
            else:
                there.functions[title] = function
