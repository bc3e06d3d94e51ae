# SPDX-License-Identifier: GPL-2.0-only
"""KTAP, the kernel's test protocol, as its readers really read it: from results to text.

The form follows Documentation/dev-tools/ktap.rst where readers agree with it and the readers where
they do not: the header is `TAP version 13`, which all of them take, and a name or a diagnostic
never holds what one of them would act on (kunit_parser, tap.py, NIPA's and LAVA's scripts search
whole lines for words like "SKIP:" and "[FAIL]").
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tests.utils.report.case import STRICT_XPASS, Case

HEADER = "TAP version 13"

#: Outcome -> (result, directive, word in the totals line).
_FORMS = {
    "passed": ("ok", "", "pass"),
    "failed": ("not ok", "", "fail"),
    "error": ("not ok", "ERROR", "error"),
    "timeout": ("not ok", "TIMEOUT", "error"),
    "skipped": ("ok", "SKIP", "skip"),
    "xfailed": ("ok", "XFAIL", "xfail"),
    "xpassed": ("ok", "XPASS", "xpass"),
}
_TOTALS = ("pass", "fail", "xfail", "xpass", "skip", "error")
#: What some reader takes as a result, or as the end, wherever it stands, and its harmless form.
_REACTIVE = (
    (re.compile(r"\x1b\[[0-9;]*[A-Za-z]"), ""),  # colours
    (re.compile(r"\b(SKIP|FAIL|PASS|XFAIL|XPASS|ERROR|TIMEOUT):"), r"\1 :"),
    (re.compile(r"\[\s*(SKIP|FAIL|PASS|OK|XFAIL|XPASS|ERROR)\s*\]"), r"(\1)"),
    (re.compile(r"#(?=\s*(SKIP|TODO|XFAIL|XPASS|TIMEOUT|ERROR|FAIL|ok\b|not ok\b))", re.I), "/"),
    (re.compile(r"\b(time=\d+)ms"), r"\1 ms"),
    # kunit_parser reads no further than these.
    (
        re.compile(
            r"(List of all partitions|Kernel panic - not syncing: VFS|reboot(?=: System halted)):"
        ),
        r"\1 :",
    ),
    (re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]"), "?"),
)


def _harmless(line: str) -> str:
    for pattern, replacement in _REACTIVE:
        line = pattern.sub(replacement, line)
    return line.rstrip()


def _one_line(text: str) -> str:
    return _harmless(" ".join(text.split()).replace("#", "/"))


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


def _tail(case: Case) -> str:
    """What comes after the name."""
    directive = _FORMS[case.outcome][1]
    if directive:
        return f"{directive} {_one_line(case.headline)}".rstrip()
    if case.outcome == "failed" and case.reason.startswith(STRICT_XPASS):
        return f"XPASS {_one_line(case.headline.removeprefix(STRICT_XPASS))}".rstrip()
    # NIPA reads the duration there; with a directive the place is taken.
    return f"time={case.duration * 1000:.0f}ms"


def result(number: int, name: str, case: Case) -> list[str]:
    """The lines of result *number* (from 1): its diagnostics, then the result line."""
    verdict = _FORMS[case.outcome][0]
    lines = diagnostics(case.story) if case.bad else []
    return [*lines, f"{verdict} {number} {_one_line(name)} # {_tail(case)}"]


def totals(outcomes: Mapping[str, int]) -> str:
    """The totals line for so many cases per outcome; it comes last."""
    counts = dict.fromkeys(_TOTALS, 0)
    for outcome, count in outcomes.items():
        counts[_FORMS[outcome][2]] += count
    return "# Totals: " + " ".join(f"{word}:{count}" for word, count in counts.items())


def bail_out(reason: str) -> str:
    """The line that says that the run was lost."""
    return f"Bail out! {_one_line(reason)}"


def document(cases: Sequence[Case], lost: str = "") -> str:
    """A whole KTAP document; *lost* is why the run did not come to its end, empty when it did."""
    names = unique_names(case.id for case in cases)
    lines = [HEADER, plan(len(cases))]
    for number, case in enumerate(cases, 1):
        lines += result(number, names[case.id], case)
    if lost:
        lines.append(bail_out(lost))
    return "\n".join([*lines, totals(Counter(case.outcome for case in cases))]) + "\n"
