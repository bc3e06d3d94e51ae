# SPDX-License-Identifier: GPL-2.0-only
"""Several kernels compared: a table of the cases by kernels, and a JSON of the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.utils.report.digest import Digest
from vm import paths
from vm.errors import Exit
from vm.process import output
from vm.report.conclude import Result
from vm.report.summary import Summary
from vm.report.verdict import worst

#: In the table, as pytest abbreviates them.
_LETTERS = {
    "passed": ".",
    "failed": "F",
    "error": "E",
    "timeout": "T",
    "skipped": "s",
    "xfailed": "x",
    "xpassed": "X",
    "": "-",
}
_NOT_RUN = "not run"
#: The same of fixes and of rules, empty where nothing is known.
_FIXES = {"there": ".", "lacking": "L", "": "-"}
_RULES = {"kept": ".", "broken": "F", "": "-"}
#: Characters in the name of a folder.
_LONGEST = 60


@dataclass(frozen=True)
class Column:
    """One kernel of the matrix."""

    #: As --kernel named it.
    name: str
    result: Result | None = None
    #: Why there is no result.
    problem: str = ""
    status: Exit = Exit.INTERRUPTED

    @property
    def tested(self) -> bool:
        """Whether cases ran that can be compared with those on other kernels."""
        return self.result is not None and self.result.verdict.status not in (
            Exit.NOTHING,
            Exit.NOT_BOOTED,
            Exit.HOST,
        )

    @property
    def outcomes(self) -> dict[str, str]:
        """Case -> outcome."""
        if self.result is None or self.result.verdict.status in (Exit.NOT_BOOTED, Exit.HOST):
            return {}  # what its report has for a case is why there is none
        return {case.id: case.outcome for case in self.result.verdict.cases}

    @property
    def digest(self) -> Digest:
        """Its rules and fixes, none where nothing was tested."""
        return self.result.summary.digest if self.result and self.tested else Digest()

    @property
    def text(self) -> str:
        """What came of it."""
        return self.result.verdict.text if self.result else self.problem or "not begun"


def folder_names(kernels: Sequence[str]) -> list[str]:
    """A name for a sub-folder per kernel, each its own."""
    names: list[str] = []
    for kernel in kernels:
        stem = re.sub(r"[^A-Za-z0-9.=-]+", "_", kernel)[-_LONGEST:].strip("_.") or "kernel"
        name, number = stem, 1
        while name in names:
            number += 1
            name = f"{stem}-{number}"
        names.append(name)
    return names


def status(columns: Sequence[Column]) -> Exit:
    """The exit status of them all: the worst."""
    return worst(c.result.verdict.status if c.result else c.status for c in columns)


def _rows(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Case -> its outcome on each kernel, empty where it did not run; in the cases' order."""
    return _merged([column.outcomes for column in columns])


def _merged(states: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    """Name -> what each kernel has for it, empty for nothing."""
    # The longest list first: a kernel that crashed may have ended in the middle.
    names = dict.fromkeys(n for one in sorted(states, key=len, reverse=True) for n in one)
    return {name: [one.get(name, "") for one in states] for name in names}


def _fixes(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Fix -> "there", "lacking" or nothing, on each kernel."""
    known = [
        {fix: state for fix, state in column.digest.fix_states.items() if state != "unknown"}
        for column in columns
    ]
    return _merged(known)


def _rules(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Rule -> "kept", "broken" or nothing, on each kernel."""
    return _merged([column.digest.rule_states for column in columns])


def table(columns: Sequence[Column], every: bool) -> Iterator[str]:
    """The lines of the table: the kernels, then the cases that differ between those on which
    something was tested, or with *every* all of them."""
    width = len(str(len(columns)))
    yield "kernels:"
    for number, column in enumerate(columns, 1):
        what = column.name
        if column.result is not None:
            summary = column.result.summary
            release = f"{summary.release}, " if summary.release else ""
            what = f"{what}: {release}{summary.backend}"
        yield f"  {number:{width}}  {what}: {column.text}"
    rows = _rows(columns)
    compared = [n for n, column in enumerate(columns) if column.tested]

    def differing(found: Mapping[str, list[str]], unknown: set[str]) -> dict[str, list[str]]:
        return {
            name: row
            for name, row in found.items()
            if every or len({row[n] for n in compared} - unknown) > 1
        }

    heads = "  " + " ".join(f"{number + 1:>{width}}" for number in range(len(columns)))
    for title, found, letters in (
        ("fixes", _fixes(columns), _FIXES),
        ("rules", _rules(columns), _RULES),
    ):
        if some := differing(found, {""}):
            yield ""
            words = ", ".join(f"{letter} {word or 'unknown'}" for word, letter in letters.items())
            what = title if every else f"{title} that differ"
            yield f"{what}, {len(some)} of {len(found)} ({words}):"
            yield heads
            for name, row in some.items():
                yield f"  {' '.join(f'{letters[one]:>{width}}' for one in row)}  {name}"
    shown = differing(rows, set())
    if not shown:
        yield f"all {len(rows)} cases are alike on them" if compared else "nothing to compare"
        return
    yield ""
    yield "all cases:" if every else f"cases that differ, {len(shown)} of {len(rows)}:"
    yield f"  ({', '.join(f'{letter} {word or _NOT_RUN}' for word, letter in _LETTERS.items())})"
    yield heads
    for name, row in shown.items():
        yield f"  {' '.join(f'{_LETTERS[one]:>{width}}' for one in row)}  {name}"


def suite_commit() -> str:
    """The commit of the suite, empty where it is not a checkout; said when files differ from it."""
    git = ["git", "-C", str(paths.ROOT)]
    try:
        commit = output([*git, "rev-parse", "--short=12", "HEAD"]).stdout.strip()
        changed = output([*git, "status", "--porcelain", "--untracked-files=no"]).stdout.strip()
    except FileNotFoundError:
        return ""
    return f"{commit} and changes" if changed else commit


def write(folder: Path, columns: Sequence[Column]) -> None:
    """Write `matrix.json` into *folder*; RESULTS.md says what stands in it."""
    kernels: list[dict[str, Any]] = []
    for column in columns:
        result = column.result
        summary = result.summary if result else Summary()
        kernels.append(
            {
                "name": column.name,
                "status": int(result.verdict.status if result else column.status),
                "verdict": column.text,
                "compared": column.tested,
                "release": summary.release,
                "backend": summary.backend,
                "seconds": summary.seconds,
                "folder": result.folder.name if result else "",
            }
        )
    rows = [{"id": name, "outcomes": row} for name, row in _rows(columns).items()]
    fixes = [{"fix": name, "states": row} for name, row in _fixes(columns).items()]
    rules = [{"id": name, "states": row} for name, row in _rules(columns).items()]
    whole = {
        "status": int(status(columns)),
        "suite": suite_commit(),
        "kernels": kernels,
        "fixes": fixes,
        "rules": rules,
        "cases": rows,
    }
    (folder / "matrix.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
