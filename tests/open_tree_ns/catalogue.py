# SPDX-License-Identifier: GPL-2.0-only
"""The kernel cases as a list: which rules each checks, which upstream test it re-expresses.

``python3 -m tests.open_tree_ns.catalogue`` says what the table of rules in
``tests/open_tree_ns/RULES.md`` lacks; with ``--write`` it brings the table's last column up to
date.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.utils.tasks.process import in_child

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "tests/open_tree_ns/RULES.md"
_MARKERS = ("upstream", "fixed_by", "needs", "rule", "isolated")
_ROW = re.compile(r"^\| (?P<id>[A-Z]+\d+) \| (?P<rule>.+?) \|(?P<cases>.*)\|$")


@dataclass(frozen=True, slots=True)
class Case:
    """One collected case: its id, what it says of itself, and its markers' arguments."""

    nodeid: str
    docstring: str
    markers: tuple[tuple[str, tuple[object, ...]], ...]

    def arguments(self, marker: str) -> list[object]:
        """All arguments of all markers of this name."""
        return [value for name, args in self.markers if name == marker for value in args]

    @property
    def short_name(self) -> str:
        """The case as the table of rules names it: module and function, without parameters."""
        module, *_, name = self.nodeid.partition("[")[0].split("::")
        return f"{Path(module).stem.removeprefix('test_')}: {name.removeprefix('test_')}"


class _Collector:
    def __init__(self) -> None:
        self.cases: list[Case] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            if not isinstance(item, pytest.Function):
                raise TypeError(f"{item} is not a function")
            marks = tuple((m.name, m.args) for m in item.iter_markers() if m.name in _MARKERS)
            self.cases.append(Case(item.nodeid, item.function.__doc__ or "", marks))


def _collect(folder: Path) -> tuple[Sequence[Case], str]:
    collector = _Collector()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        arguments = ["--collect-only", "-qq", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = pytest.main([*arguments, str(folder)], plugins=[collector])
    return collector.cases, "" if status == pytest.ExitCode.OK else output.getvalue()


def collect(folder: Path = ROOT / "tests/open_tree_ns") -> Sequence[Case]:
    """All kernel cases, collected in a process of their own.

    :raises ValueError: a module is broken: what pytest says of it.
    """
    cases, broken = in_child(lambda: _collect(folder))
    if broken:
        raise ValueError(f"the cases cannot be collected:\n{broken}")
    return cases


def rule_ids(text: str) -> list[str]:
    """The ids of the table of rules, in its order."""
    return [row["id"] for row in map(_ROW.match, text.splitlines()) if row]


def rendered(text: str, cases: Sequence[Case]) -> str:
    """The table of rules with its last column as *cases* have it."""
    by_rule: dict[str, dict[str, None]] = {}
    for case in cases:
        for rule in case.arguments("rule"):
            by_rule.setdefault(str(rule), {})[case.short_name] = None

    def lines() -> Iterator[str]:
        for line in text.splitlines():
            row = _ROW.match(line)
            if row is None:
                yield line
            else:
                names = "; ".join(by_rule.get(row["id"], {}))
                yield f"| {row['id']} | {row['rule']} | {names} |"

    return "\n".join(lines()) + "\n"


def problems(text: str, cases: Sequence[Case]) -> list[str]:
    """What does not fit between the table of rules and the cases, a sentence each."""
    known = rule_ids(text)
    used = {str(rule) for case in cases for rule in case.arguments("rule")}
    return [
        *(f"rule {rule} has no case" for rule in known if rule not in used),
        *(f"rule {rule} stands twice in the table" for rule in {*known} if known.count(rule) > 1),
        *(
            f"a case names rule {rule}, which is not in the table"
            for rule in sorted(used - {*known})
        ),
        *(f"{case.nodeid} names no rule" for case in cases if not case.arguments("rule")),
    ]


def main() -> int:
    """Check the table of rules, or write it."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.open_tree_ns.catalogue", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--write", action="store_true", help="bring the last column up to date")
    options = parser.parse_args()
    text = RULES.read_text()
    try:
        cases = collect()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    for problem in problems(text, cases):
        print(problem)
    if options.write:
        RULES.write_text(rendered(text, cases))
    return 1 if problems(text, cases) else 0


if __name__ == "__main__":
    sys.exit(main())
