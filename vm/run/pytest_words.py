# SPDX-License-Identifier: GPL-2.0-only
"""What a user's words for pytest mean, as far as the launcher must know: pytest itself is not at
hand on the host, and reads them in the guest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Options that take the next word: their last letter, or their name without the dashes. Those of
#: pytest, pytest-xdist, pytest-timeout and the suite.
SHORT = "Wckmnopr"
_LONG = """
    assert basetemp capture code-highlight color confcutdir config-file deselect dist doctest-glob
    doctest-report durations durations-min fixed-by ignore ignore-glob import-mode junit-prefix
    junit-xml junitprefix junitxml last-failed-no-failures lfnf log-auto-indent log-cli-date-format
    log-cli-format log-cli-level log-date-format log-disable log-file log-file-date-format
    log-file-format log-file-level log-file-mode log-format log-level max-warnings
    max-worker-restart maxfail maxprocesses maxschedchunk numprocesses override-ini pastebin pdbcls
    px pythonwarnings report-chars rootdir rsyncdir rsyncignore rule session-timeout show-capture
    stress stress-seed tb testrunuid timeout timeout-method timeout_method tx verbosity waive
    """
LONG = frozenset(_LONG.split())


@dataclass(frozen=True)
class Words:
    """pytest's arguments, told apart."""

    #: Name without dashes, and value; empty for none.
    options: tuple[tuple[str, str], ...]
    #: What names files and cases.
    places: tuple[str, ...]

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """Tell *words* apart."""
        found = list(_parsed(words))
        options = tuple((name, value) for name, value in found if name)
        return cls(options, tuple(value for name, value in found if not name))

    def has(self, *names: str) -> bool:
        """Return whether one of these options is given."""
        return any(name in names for name, _ in self.options)

    def names_cases(self, root: Path) -> bool:
        """Return whether the cases to run are named, by files or folders below *root*."""
        return any((root / place.partition("::")[0]).exists() for place in self.places)

    @property
    def most_failures(self) -> int:
        """After how many failures pytest is to stop, 0 for never."""
        most = 0
        for name, value in self.options:
            if name in ("x", "exitfirst"):
                most = 1
            elif name == "maxfail" and value.isdecimal():
                most = int(value)
        return most


def _parsed(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    left = iter(words)
    for word in left:
        if word == "--":
            yield from (("", place) for place in left)
        elif word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            yield name, value if equals or name not in LONG else next(left, "")
        elif word.startswith("-") and len(word) > 1:
            yield from _letters(word[1:], left)
        else:
            yield "", word


def _letters(cluster: str, left: Iterator[str]) -> Iterator[tuple[str, str]]:
    """-vxk NAME is -v, -x and -k with NAME."""
    for at, letter in enumerate(cluster):
        if letter in SHORT:
            yield letter, cluster[at + 1 :].removeprefix("=") or next(left, "")
            return
        yield letter, ""
