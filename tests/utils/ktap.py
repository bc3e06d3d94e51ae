# SPDX-License-Identifier: GPL-2.0-only
"""KTAP, the kernel's test protocol, as its readers really read it: from results to text.

The form follows Documentation/dev-tools/ktap.rst where readers agree with it and the readers where
they do not: the header is `TAP version 13`, which all of them take, and a name or a diagnostic
never holds what one of them would act on (kunit_parser, tap.py, NIPA's and LAVA's scripts search
whole lines for words like "SKIP:" and "[FAIL]").
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEADER = "TAP version 13"

#: Outcome -> (result, directive, word in the totals line).
_FORMS = {
    "passed": ("ok", "", "pass"),
    "failed": ("not ok", "", "fail"),
    "error": ("not ok", "ERROR", "error"),
    "timeout": ("not ok", "TIMEOUT", "error"),
    "skipped": ("ok", "SKIP", "skip"),
    "xfailed": ("ok", "XFAIL", "xfail"),
    "xpassed": ("not ok", "XPASS", "xpass"),
}
#: How a case can end; "error" is a broken set-up or tear-down, a death by signal, or no end at all.
OUTCOMES = tuple(_FORMS)
_TOTALS = ("pass", "fail", "xfail", "xpass", "skip", "error")
#: What some reader takes as a result, or chokes on, wherever it stands, and its harmless form.
_REACTIVE = (
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),  # colours
    (re.compile(r"\b(SKIP|FAIL|PASS|XFAIL|XPASS|ERROR|TIMEOUT):"), r"\1 :"),
    (re.compile(r"\[\s*(SKIP|FAIL|PASS|OK|XFAIL|XPASS|ERROR)\s*\]"), r"(\1)"),
    (re.compile(r"#(?=\s*(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR|FAIL|ok\b|not ok\b))", re.I), "/"),
    (re.compile(r"\b(time=\d+)ms"), r"\1 ms"),
    (re.compile(r"[\x00-\x08\x0b-\x1f\x7f]"), "?"),
)


@dataclass(frozen=True)
class Result:
    """One result: a case's stable name, one of OUTCOMES, seconds, reason, and its long text."""

    name: str
    outcome: str
    duration: float = 0.0
    reason: str = ""
    text: str = ""


def _harmless(line: str) -> str:
    for pattern, replacement in _REACTIVE:
        line = pattern.sub(replacement, line)
    return line.rstrip()


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("#", "/")


def unique_names(ids: Iterable[str]) -> dict[str, str]:
    """A case's id -> its name in a document; no two are equal, in whatever order results come."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for one in dict.fromkeys(ids):
        name = base = _one_line(one)
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_dup{number}"
        taken.add(name)
        names[one] = name
    return names


def plan(count: int) -> str:
    """The plan for *count* results; it comes first."""
    return f"1..{count}"


def diagnostics(text: str) -> list[str]:
    """*text* as diagnostic lines: a bar keeps its lines from looking like results."""
    return [f"# | {_harmless(line)}".rstrip() for line in text.splitlines()]


def result(number: int, one: Result) -> list[str]:
    """The lines of result *number* (from 1): its diagnostics, then the result line."""
    verdict, directive, _ = _FORMS[one.outcome]
    lines = diagnostics(one.text) if verdict == "not ok" else []
    reason = _harmless(_one_line(one.reason.partition("\n")[0]))
    # NIPA reads the duration there; with a directive the place is taken.
    tail = (
        " ".join([directive, reason]).strip() if directive else f"time={one.duration * 1000:.0f}ms"
    )
    return [*lines, f"{verdict} {number} {_one_line(one.name)} # {tail}"]


def totals(results: Iterable[Result]) -> str:
    """The totals line; it comes last."""
    counts = dict.fromkeys(_TOTALS, 0)
    for one in results:
        counts[_FORMS[one.outcome][2]] += 1
    return "# Totals: " + " ".join(f"{word}:{count}" for word, count in counts.items())


def bail_out(reason: str) -> str:
    """The line that says that the run was lost."""
    return f"Bail out! {_harmless(_one_line(reason))}"


def document(results: Sequence[Result], lost: str = "") -> str:
    """A whole KTAP document; *lost* is why the run did not come to its end, empty when it did."""
    lines = [HEADER, plan(len(results))]
    for number, one in enumerate(results, 1):
        lines += result(number, one)
    if lost:
        lines.append(bail_out(lost))
    return "\n".join([*lines, totals(results)]) + "\n"
