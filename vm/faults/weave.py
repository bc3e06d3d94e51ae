# SPDX-License-Identifier: GPL-2.0-only
"""Many edits in one text: each behind a switch that the kernel's command line sets.

An expression becomes `(planted(7) ? (edited) : (as it was))`, statements become
`{ if (planted(7)) { edited } else { as it was } }`. Edits may lie within one another, and on the
same text; lines keep their numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vm.faults.c import Span, is_statement

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)


@dataclass(frozen=True, order=True)
class Switch:
    """An edit and its number."""

    span: Span
    number: int
    #: What stands there with the fault.
    text: str


@dataclass(frozen=True)
class Woven:
    """A text with switches."""

    text: str
    #: Where each came to lie.
    spans: dict[int, list[Span]]

    def numbers_at(self, line: int, column: int = 0) -> list[int]:
        """Return the switches at a position, counted from 1, or anywhere on the line, the
        innermost first."""
        starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        if not 0 < line <= len(starts):
            return []
        ends = [*starts[1:], len(self.text) + 1]
        start = starts[line - 1] + max(0, column - 1)
        place = Span(start, start + 1 if column else ends[line - 1])
        found = [
            (span.end - span.start, number)
            for number, spans in self.spans.items()
            for span in spans
            if span.meets(place)
        ]
        return [number for _, number in sorted(found)]


def clash(switches: Iterable[Switch]) -> tuple[Switch, Switch] | None:
    """Return two of *switches* that overlap and of which neither holds the other, None where there
    are none."""
    outer: list[Switch] = []
    for switch in _ordered(switches):
        while outer and not outer[-1].span.meets(switch.span):
            outer.pop()
        if outer and not outer[-1].span.holds(switch.span):
            return outer[-1], switch
        outer.append(switch)
    return None


def _ordered(switches: Iterable[Switch]) -> list[Switch]:
    """*switches*, each behind those that hold it."""
    return sorted(switches, key=lambda one: (one.span.start, -one.span.end, one.number))


def weave(text: str, switches: Iterable[Switch]) -> Woven:
    """Return *text* with all *switches*, none of which overlaps another's end."""
    parts: list[str] = []
    spans: dict[int, list[Span]] = {}
    _put(text, Span(0, len(text)), _ordered(switches), parts, spans, 0)
    return Woven("".join(parts), spans)


def _put(
    text: str,
    region: Span,
    switches: Sequence[Switch],
    parts: list[str],
    spans: dict[int, list[Span]],
    length: int,
) -> int:
    """Append the *region* of *text* with *switches* to *parts*, which are *length* characters so
    far; the new length."""

    def add(piece: str) -> None:
        nonlocal length
        parts.append(piece)
        length += len(piece)

    at, first = region.start, 0
    while first < len(switches):
        span = switches[first].span
        here = [switch for switch in switches[first:] if switch.span == span]
        inner = [
            switch for switch in switches[first:] if switch.span != span and span.holds(switch.span)
        ]
        add(text[at : span.start])
        start = length
        statements = is_statement(text[span.start : span.end])
        add("{ " if statements else "(")
        for switch in here:
            edited, own = _one_line(switch.text), length
            if statements:
                add(f"if (planted({switch.number})) {{ {edited} }} else ")
            else:
                add(f"planted({switch.number}) ? ({edited}) : ")
            spans.setdefault(switch.number, []).append(Span(own, length))
        add("{ " if statements else "(")
        length = _put(text, span, inner, parts, spans, length)
        add(" } }" if statements else "))")
        for switch in here:  # what is wrong with the whole may be any of these, but last of all
            spans[switch.number].append(Span(start, length))
        at, first = span.end, first + len(here) + len(inner)
    add(text[at : region.end])
    return length


def _one_line(text: str) -> str:
    return " ".join(_COMMENT.sub(" ", text).split())
