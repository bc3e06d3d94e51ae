#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""From pytest's JUnit report to the results of a test system: one result per case.

usage: results.py tmt|lava JUNIT

tmt: a results.json for `result: custom`, on standard output. lava: calls of lava-test-case, to be
run by a shell. A report that is missing, broken or empty is one result that is bad: a run that
came to nothing must not look like one that is left out.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

#: Element of a JUnit case -> (tmt's result, LAVA's).
_WORDS = {
    "failure": ("fail", "fail"),
    "error": ("error", "fail"),
    "skipped": ("skip", "skip"),
    "": ("pass", "pass"),
}
_EXPECTED_FAILURE = "pytest.xfail"


@dataclass(frozen=True)
class Result:
    """One case: its name, the JUnit element it has, seconds, and why."""

    name: str
    kind: str
    seconds: float = 0.0
    note: str = ""


def results(path: str) -> list[Result]:
    """The results in the report *path*, never none."""
    try:
        found = [_result(case) for case in ElementTree.parse(path).iter("testcase")]
    except (OSError, ElementTree.ParseError) as error:
        return [Result("run", "error", note=f"no JUnit report: {error}")]
    return found or [Result("run", "error", note="no case was run")]


def _result(case: ElementTree.Element) -> Result:
    name = f"{case.get('classname')}.{case.get('name')}"
    seconds = float(case.get("time", "0"))
    for kind in ("error", "failure", "skipped"):
        element = case.find(kind)
        if element is not None:
            good = element.get("type") == _EXPECTED_FAILURE
            return Result(name, "" if good else kind, seconds, element.get("message", ""))
    return Result(name, "", seconds)


def _unique(found: Sequence[Result]) -> Iterator[tuple[str, Result]]:
    """Each result with a name that both systems take; no two are equal."""
    taken: set[str] = set()
    for result in found:
        name = base = re.sub(r"[^A-Za-z0-9_.-]+", "-", result.name).strip("-")
        number = 1
        while name in taken:
            number += 1
            name = f"{base}_dup{number}"
        taken.add(name)
        yield name, result


def tmt(found: Sequence[Result]) -> str:
    """The text of a results.json."""
    records = []
    for name, result in _unique(found):
        minutes, seconds = divmod(round(result.seconds), 60)
        record = {
            "name": f"/{name}",
            "result": _WORDS[result.kind][0],
            "note": [result.note] if result.note else [],
            "duration": f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}",
        }
        records.append(record)
    return json.dumps(records, indent=2)


def lava(found: Sequence[Result]) -> str:
    """A shell script."""
    return "\n".join(
        shlex.join(["lava-test-case", name, "--result", _WORDS[result.kind][1]])
        for name, result in _unique(found)
    )


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("tmt", "lava"):
        sys.exit("usage: results.py tmt|lava JUNIT")
    print({"tmt": tmt, "lava": lava}[sys.argv[1]](results(sys.argv[2])))
