# SPDX-License-Identifier: GPL-2.0-only
"""The public record, docs/kernels.md: which kernel has which fix and keeps which rule, as a page.

Made from what a run with several kernels has left: its matrix.json, and each kernel's summary.json.
Kernels stand in the order of their releases, and what differs between neighbours is said in words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.utils.report.known import known
from vm import paths
from vm.errors import Exit, Problem

#: How the states of matrix.json read on the page.
_WORDS = {"there": "yes", "lacking": "**no**", "kept": "yes", "broken": "**no**", "": "?"}
_PACKAGE = re.compile(r"Debian (\S+)")
_HINT = "name the folder of a run with several --kernel, each of which has one of its own there"


@dataclass(frozen=True)
class Tested:
    """A kernel of the run."""

    release: str
    #: The package as it was asked for, and its version.
    name: str
    version: str
    date: str
    verdict: str
    #: Fix or rule -> the state of matrix.json, empty where no case tells.
    fixes: Mapping[str, str]
    rules: Mapping[str, str]

    @property
    def number(self) -> tuple[int, ...]:
        """The release, to sort by."""
        return tuple(map(int, re.findall(r"\d+", self.short)))

    @property
    def short(self) -> str:
        """The release without what the distribution adds."""
        return re.split(r"[^\d.]", self.release)[0]


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise Problem(f"kernels --record {file}: {text}\nhint: {_HINT}", Exit.USAGE) from None


def read(folder: Path) -> tuple[str, list[Tested]]:
    """Return the suite's commit, and the kernels of the run in *folder* on which cases ran, oldest
    first.

    :raises Problem: the folder holds no such run.
    """
    whole = _read(folder / "matrix.json")
    found = []
    for number, kernel in enumerate(whole["kernels"]):
        if not kernel["compared"]:
            continue
        summary = _read(folder / kernel["folder"] / "summary.json")
        package = _PACKAGE.search(summary["environment"]["version"])
        found.append(
            Tested(
                release=kernel["release"],
                name=kernel["name"],
                version=package[1] if package else "",
                date=summary["started"][:10],
                verdict=kernel["verdict"],
                fixes={row["fix"]: row["states"][number] for row in whole["fixes"]},
                rules={row["id"]: row["states"][number] for row in whole["rules"]},
            )
        )
    if not found:
        raise Problem(f"kernels --record {folder}: cases ran on none of its kernels", Exit.USAGE)
    return whole["suite"], sorted(found, key=lambda kernel: kernel.number)


def _table(head: str, kernels: Sequence[Tested], rows: Mapping[str, list[str]]) -> Iterator[str]:
    """A table with a column for each kernel."""
    yield f"| {head} | {' | '.join(kernel.short for kernel in kernels)} |"
    yield "|---" * (len(kernels) + 1) + "|"
    for name, states in rows.items():
        yield f"| {name} | {' | '.join(_WORDS[state] for state in states)} |"


def _differences(old: Tested, new: Tested, sentences: Mapping[str, str]) -> Iterator[str]:
    """What differs between two kernels, a line each."""
    for title, plural, before, after, came, went in (
        ("fix", "fixes", old.fixes, new.fixes, "has", "lacks"),
        ("rule", "rules", old.rules, new.rules, "keeps", "breaks"),
    ):
        good = {"there", "kept"}
        for word, sign in ((came, True), (went, False)):
            changed = [
                name
                for name, state in after.items()
                if state and before[name] and state != before[name] and (state in good) is sign
            ]
            for name in changed:
                text = f"{name} ({sentences[name]})" if name in sentences else name
                yield f"- {word} the {title} {text}"
        told = [name for name, state in after.items() if state and not before[name]]
        if told:
            yield f"- tells of {plural} that the other does not tell of: {', '.join(told)}"


def page(suite: str, kernels: Sequence[Tested]) -> Iterator[str]:
    """The lines of the page.

    :param suite: the commit of the suite that the cases ran from.
    """
    sentences = known(paths.ROOT).rules
    dates = sorted({kernel.date for kernel in kernels})
    yield "# Which kernel has which fix, and keeps which rule"
    yield ""
    when = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    yield "Printed by `python3 -m vm kernels --record FOLDER` from the artefacts of a run with"
    yield f"these kernels: {when}, the suite at {suite or 'no known commit'}."
    yield "The rules: [RULES.md](../tests/open_tree_ns/RULES.md). `?`: no case tells, or the kernel"
    yield "behaves as without a fix that its release has."
    yield ""
    yield "| Linux | kernel | package's version | tested | verdict |"
    yield "|---|---|---|---|---|"
    for kernel in kernels:
        cells = (kernel.release, f"`{kernel.name}`", kernel.version, kernel.date, kernel.verdict)
        yield f"| {' | '.join(cells)} |"
    for title, head, states, bad in (
        ("Fixes", "fix", [kernel.fixes for kernel in kernels], "lacking"),
        ("Rules", "rule", [kernel.rules for kernel in kernels], "broken"),
    ):
        rows = {name: [state[name] for state in states] for name in states[0]}
        shown = {name: row for name, row in rows.items() if bad in row}
        yield f"\n## {title}\n"
        if shown:
            yield from _table(head, kernels, shown)
            yield ""
        good = "there" if bad == "lacking" else "kept"
        yield f"The other {len(rows) - len(shown)} are {good} wherever a case tells."
    yield "\n## From one kernel to the next"
    for old, new in pairwise(kernels):
        yield f"\n**{new.short}**, other than {old.short}:\n"
        yield from [*_differences(old, new, sentences)] or ["- nothing that a case tells"]
