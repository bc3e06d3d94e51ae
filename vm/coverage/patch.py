# SPDX-License-Identifier: GPL-2.0-only
"""The lines that a patch or a series adds or changes, and those of them that nothing ran."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vm.coverage.counts import Counts
from vm.errors import Exit, Problem
from vm.process import output

_FILE = re.compile(r"\+\+\+ (?:b/(.*?)\t?|/dev/null)")
_HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")
_GIT = ("git", "-c", "core.quotePath=off", "diff", "--unified=0", "--no-color", "--no-ext-diff")
_GIT_MORE = ("--relative", "--src-prefix=a/", "--dst-prefix=b/", "--diff-filter=d")


@dataclass(frozen=True)
class Place:
    """A line of the source."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text.strip()}"


def added(diff: str) -> list[Place]:
    """Return the lines that *diff*, git's with no context, adds; a changed line is one."""
    found: list[Place] = []
    file, number, left = "", 0, 0
    for line in diff.split("\n"):
        if left and line.startswith("+"):
            found.append(Place(file, number, line[1:]))
            number, left = number + 1, left - 1
        elif hunk := _HUNK.match(line):
            number, left = int(hunk[1]), int(hunk[2] or 1)
        elif not left and (match := _FILE.fullmatch(line)):
            file = match[1] or ""
    return found


def changed(source: Path, revisions: str) -> list[Place]:
    """Return the lines that *source* has beyond REV, or that REV..REV adds, as git diff has it.

    :raises Problem: there is no such revision, or the files have changed since the second one.
    """
    base, dots, tip = revisions.partition("..")
    if revisions.startswith("-") or (dots and not (base and tip)) or tip.startswith("."):
        raise Problem(
            f"--coverage-of {revisions}: neither a revision nor two with .. between\n"
            "hint: HEAD for what is not committed, BASE for all since BASE, or BASE..HEAD",
            Exit.USAGE,
        )
    diff = _diff(source, revisions, base, *([tip] if dots else []))
    if dots and diff:
        names = sorted({place.file for place in added(diff)})
        if names and (later := added(_diff(source, revisions, tip, "--", *names))):
            raise Problem(
                f"--coverage-of {revisions}: {later[0].file} is not as {tip} has it, and what is"
                f" built is what is there\nhint: git checkout {tip}, or --coverage-of {base}",
                Exit.USAGE,
            )
    return added(diff)


def _diff(source: Path, revisions: str, *words: str) -> str:
    at = words.index("--") if "--" in words else len(words)
    command = [*_GIT, *_GIT_MORE, *words[:at], "--", *words[at + 1 :]]
    done = output(command, folder=source)
    if done.returncode:
        first = (done.stderr.strip().splitlines() or ["git failed"])[0]
        raise Problem(
            f"--coverage-of {revisions}: {source}: {first}\n"
            "hint: name commits of the kernel tree that is built",
            Exit.USAGE,
        )
    return done.stdout


@dataclass(frozen=True)
class Judged:
    """The lines of a patch, by what became of them; those that hold no code are in none."""

    run: list[Place]
    not_run: list[Place]
    #: Files of C whose lines were not counted: they are not part of this kernel.
    uncounted: list[str]


def judge(places: list[Place], counts: Counts) -> Judged:
    """Return which of *places* ran."""
    code = [
        (place, counts[place.file].lines[place.line])
        for place in places
        if place.file in counts and place.line in counts[place.file].lines
    ]
    files = {place.file for place in places if place.file.endswith(".c")}
    return Judged(
        [place for place, line in code if line.count],
        [place for place, line in code if not line.count],
        sorted(files - counts.keys()),
    )
