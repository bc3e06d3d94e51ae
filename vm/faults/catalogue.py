# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue in faults/: faults written by hand, and what is known of the mechanical ones."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from vm import paths
from vm.errors import Exit, Problem
from vm.faults.c import is_whole

FOLDER = paths.ROOT / "faults"
#: The file about the mechanical ones; each other is a family of faults written by hand.
OPERATORS = "operators.toml"
HAND, MECHANICAL = "hand", "mechanical"
_KEYS = {"id", "sees", "rule", "fix", "file", "function", "find", "replace", "edit"}
_MORE = {"alone", "silent", "equivalent"}


@dataclass(frozen=True)
class Edit:
    """A text of the kernel's source, and what stands there with the fault."""

    file: str
    #: Empty where it is in none.
    function: str
    find: str
    replace: str


@dataclass(frozen=True)
class Fault:
    """A fault, however it came into the catalogue."""

    id: str
    family: str
    #: HAND or MECHANICAL.
    kind: str
    edits: tuple[Edit, ...]
    #: What a user would see.
    sees: str = ""
    rules: tuple[str, ...] = ()
    #: The subject of the commit that it takes back.
    fix: str = ""
    #: Whether no switch can stand for it, so that it needs a build of its own.
    alone: bool = False
    #: Why no case notices it; why none can, since nothing differs.
    silent: str = ""
    equivalent: str = ""

    @property
    def digest(self) -> str:
        """What changes when the edit does."""
        text = repr((self.edits, self.rules, self.fix))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def selection(self) -> tuple[str, ...]:
        """pytest's arguments for the cases of its rules and fix, none where it has neither."""
        fixes = (f"--fixed-by={self.fix}",) if self.fix else ()
        return (*(f"--rule={rule}" for rule in self.rules), *fixes)

    def is_named(self, pattern: str) -> bool:
        """Return whether the shell's *pattern* is of its id, its family or its kind."""
        return any(
            name == pattern or fnmatchcase(name, pattern)
            for name in (self.id, self.family, self.kind)
        )


@dataclass(frozen=True)
class Operators:
    """What is changed mechanically, and what is known of the outcome."""

    #: File -> functions.
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Function -> the rules whose cases come first.
    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Id -> why nothing differs; why no case notices.
    equivalent: Mapping[str, str] = field(default_factory=dict)
    silent: Mapping[str, str] = field(default_factory=dict)
    #: Pattern of ids -> why they are left out.
    left_out: Mapping[str, str] = field(default_factory=dict)

    def leaves_out(self, name: str) -> bool:
        """Return whether the fault of this id is not to be planted."""
        return any(fnmatchcase(name, pattern) for pattern in self.left_out)


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Problem(f"{path}: {error}", Exit.USAGE) from None


def load(folder: Path = FOLDER) -> list[Fault]:
    """Return the faults written by hand. Raises Problem where a file makes no sense."""
    found: dict[str, Fault] = {}
    for path in sorted(folder.glob("*.toml")):
        if path.name == OPERATORS:
            continue
        table = _read(path)
        for number, row in enumerate(table.get("fault", []), 1):
            row.setdefault("file", table.get("file", ""))
            fault = _fault(path, f"{path.name}: {row.get('id', f'fault {number}')}", row)
            if fault.id in found:
                raise Problem(f"{path.name}: {fault.id}: there are two of this id", Exit.USAGE)
            found[fault.id] = fault
    return list(found.values())


def _fault(path: Path, what: str, row: dict[str, Any]) -> Fault:
    if unknown := row.keys() - _KEYS - _MORE:
        raise Problem(f"{what}: unknown key {', '.join(sorted(unknown))}", Exit.USAGE)
    file = row.get("file", "")
    rows = row.get("edit", [row])
    edits = tuple(
        Edit(
            one.get("file", file),
            one.get("function", ""),
            one.get("find", "").strip(),
            one.get("replace", "").strip(),
        )
        for one in rows
    )
    rules = row.get("rule", [])
    fault = Fault(
        row.get("id", ""),
        path.stem,
        HAND,
        edits,
        row.get("sees", ""),
        tuple([rules] if isinstance(rules, str) else rules),
        row.get("fix", ""),
        row.get("alone", False),
        row.get("silent", ""),
        row.get("equivalent", ""),
    )
    for key, value in (("id", fault.id), ("sees", fault.sees), ("rule or fix", fault.selection)):
        if not value:
            raise Problem(f"{what}: no {key}", Exit.USAGE)
    for edit in edits:
        if not edit.file or not edit.find or edit.find == edit.replace:
            raise Problem(
                f"{what}: an edit needs a file, a text to find, and another in its place",
                Exit.USAGE,
            )
        if not (fault.alone or is_whole(edit.find)):
            raise Problem(
                f"{what}: not whole, a bracket is open: {edit.find}\n"
                "hint: `find` is an expression, or statements to their end",
                Exit.USAGE,
            )
    return fault


def operators(folder: Path = FOLDER) -> Operators:
    """Return what the file on mechanical faults says. Raises Problem if it makes no sense."""
    path = folder / OPERATORS
    table = _read(path)
    known: dict[str, dict[str, str]] = {"equivalent": {}, "silent": {}, "left_out": {}}
    for name, reasons in known.items():
        for row in table.get(name, []):
            if set(row) != {"ids", "reason"}:
                raise Problem(f"{path.name}: [[{name}]] has ids and a reason", Exit.USAGE)
            reasons.update(dict.fromkeys(row["ids"], row["reason"]))
    return Operators(
        {file: tuple(names) for file, names in table.get("functions", {}).items()},
        {name: tuple(rules) for name, rules in table.get("rules", {}).items()},
        **known,
    )


def chosen(faults: Iterable[Fault], patterns: Iterable[str]) -> list[Fault]:
    """Return those of *faults* that one of *patterns* names, all where there is none.

    :raises Problem: a pattern names none.
    """
    there, wanted = list(faults), list(patterns)
    for pattern in wanted:
        if not any(fault.is_named(pattern) for fault in there):
            raise Problem(
                f"{pattern}: no fault, family or kind of this name\n"
                "hint: python3 -m vm faults --list has them all",
                Exit.USAGE,
            )
    return [fault for fault in there if not wanted or any(map(fault.is_named, wanted))]
