# SPDX-License-Identifier: GPL-2.0-only
"""Known failures, read from a TOML file: which cases, why, and on which kernels.

    [[waive]]
    case = "tests/open_tree_ns/test_locks.py::test_a_lock[*]"
    reason = "https://lore.kernel.org/r/...: reported, not fixed yet"
    kernel = ">=7.0,<7.2.11"

``case`` is a node id, where ``*`` and ``?`` stand for any text and any character. In its place
``rule`` stands for all cases that check a rule, and ``fixed_by`` for all that need a fix: the first
digits of the commit, or words of its subject. ``kernel`` may be left out; every condition in it
must hold. A release counts by its number alone: 7.3.0-rc1 is 7.3.
"""

from __future__ import annotations

import operator
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tests.utils.report.known import concerns

_Version = tuple[int, ...]
_COMPARE: dict[str, Callable[[_Version, _Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_CONDITION = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})\s*")
#: What says which cases a waiver is for: one of these.
_CHOICES = ("case", "rule", "fixed_by")
_KEYS = {*_CHOICES, "reason", "kernel"}


def _version(text: str) -> _Version:
    """The three numbers at the head of a version, those left out being 0."""
    numbers = re.match(r"\d+(?:\.\d+){0,2}", text)
    if numbers is None:
        raise ValueError(f"no kernel version: {text!r}")
    parts = [int(part) for part in numbers[0].split(".")]
    return tuple(parts + [0] * (3 - len(parts)))


@dataclass(frozen=True, slots=True)
class Waiver:
    """One known failure."""

    case: str
    reason: str
    kernel: str = ""
    #: In place of the case.
    rule: str = ""
    fixed_by: str = ""

    @property
    def name(self) -> str:
        """Which cases it is for, as its user has written it."""
        return self.case or (f"rule {self.rule}" if self.rule else f"fixed_by {self.fixed_by}")

    def holds_on(self, release: str) -> bool:
        """Whether it is meant for the kernel with this release (``uname -r``)."""
        return all(
            _COMPARE[sign](_version(release), _version(version))
            for sign, version in self._conditions()
        )

    def covers(self, nodeid: str, markers: Mapping[str, Sequence[Any]]) -> bool:
        """Whether it is meant for this case."""
        if not self.case:
            return concerns(
                markers,
                [self.rule] if self.rule else [],
                [self.fixed_by] if self.fixed_by else [],
            )
        # Brackets belong to node ids.
        return self.case == nodeid or fnmatchcase(nodeid, self.case.replace("[", "[[]"))

    def _conditions(self) -> list[tuple[str, str]]:
        """The conditions of ``kernel``; raises ValueError where one cannot be read."""
        found = []
        for part in self.kernel.split(",") if self.kernel.strip() else []:
            match = _CONDITION.fullmatch(part)
            if match is None:
                raise ValueError(f"kernel {self.kernel!r} is no range such as '>=7.0,<7.2.11'")
            found.append((match[1], match[2]))
        return found


@dataclass(frozen=True, slots=True)
class Use:
    """What became of a waiver in one session."""

    #: The waiver's name.
    case: str
    #: Whether there is a case that it is meant for, run or not.
    there: bool
    #: Whether one passed, and whether one failed.
    passed: bool
    needed: bool


def unneeded(sessions: Sequence[Sequence[Use]]) -> Iterator[str]:
    """Which waivers were not needed, and why; *sessions* shared out the cases among them."""
    for uses in zip(*sessions, strict=True):
        if not any(use.there for use in uses):
            yield f"waiver not needed: {uses[0].case}: there is no such case"
        elif any(use.passed for use in uses) and not any(use.needed for use in uses):
            yield f"waiver not needed: {uses[0].case}: passed"


def parse(data: bytes) -> list[Waiver]:
    """The waivers of a file with the contents *data*.

    :raises ValueError: it cannot be read; the text is one line that says what is wrong, and where.
    """
    try:
        table = tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {' '.join(str(error).split())}") from None
    for key in table:
        if key != "waive":
            raise ValueError(f"unknown key {key!r}: only [[waive]] tables are known")
    entries = table.get("waive", [])
    if not isinstance(entries, list):
        raise ValueError("[waive] must be [[waive]]: one table per case")
    return [_waiver(number, entry) for number, entry in enumerate(entries, 1)]


def _waiver(number: int, entry: object) -> Waiver:
    where = f"[[waive]] number {number}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is no table")
    for key, value in entry.items():
        if key not in _KEYS:
            raise ValueError(
                f"{where}: unknown key {key!r}: it may have case, rule or fixed_by, and reason and"
                " kernel"
            )
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{where}: {key} must be a text, and not empty")
    given = [key for key in _CHOICES if key in entry]
    if not given:
        raise ValueError(f"{where} has no case, rule or fixed_by")
    if len(given) > 1:
        raise ValueError(f"{where} has {' and '.join(given)}: it may have one of them")
    if "reason" not in entry:
        raise ValueError(f"{where} has no reason")
    waiver = Waiver(**{"case": "", **{key: " ".join(text.split()) for key, text in entry.items()}})
    try:
        waiver._conditions()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return waiver
