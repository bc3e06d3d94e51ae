# SPDX-License-Identifier: GPL-2.0-only
"""The rules and fixes that the kernel cases know: read from their files, and nothing imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: A row of the table in RULES.md: id, sentence, cases.
_ROW = re.compile(r"^\| (?P<id>[A-Z]+\d+) \| (?P<rule>.+?) \|")
_CASES = "tests/open_tree_ns"


@dataclass(frozen=True, slots=True)
class Fix:
    """A kernel commit that fixed a rule."""

    commit: str
    version: str
    subject: str

    def __str__(self) -> str:
        what = f'"{self.subject}"' if self.commit == "-" else f'{self.commit} ("{self.subject}")'
        return f"{what} ({self.version})"

    def is_named(self, text: str) -> bool:
        """Return whether *text* is the beginning of the commit's id, or words of its subject."""
        return self.commit.startswith(text) or text.lower() in self.subject.lower()

    def is_due_in(self, release: str) -> bool:
        """Return whether a kernel of this release has the fix by its number alone."""
        numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?(-rc)?", release)
        if numbers is None:
            return False
        major, minor, patch = (int(part or 0) for part in numbers.groups()[:3])
        if numbers[4]:  # of the series before
            minor, patch = minor - 1, 0
        for version in self.version.split(","):
            parts = [int(part) for part in re.findall(r"\d+", version.partition("-")[0])]
            series, first = (parts[0], parts[1]), parts[2] if len(parts) > 2 else 0
            if series == (major, minor):
                return patch >= first
        oldest = [[int(p) for p in re.findall(r"\d+", v)[:2]] for v in self.version.split(",")]
        return [major, minor] > max(oldest)


def parse_rules(text: str) -> dict[str, str]:
    """Return the rules of RULES.md, with the contents *text*: id -> sentence."""
    rows = map(_ROW.match, text.splitlines())
    return {row["id"]: row["rule"].replace("`", "") for row in rows if row}


def parse_fixes(source: str) -> list[Fix]:
    """Return the fixes that the module with this *source* marks cases with (fixes.py)."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [
        Fix(*(ast.literal_eval(argument) for argument in call.args))
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr == "fixed_by"
    ]


def fixes_of(markers: Mapping[str, Sequence[Any]]) -> list[Fix]:
    """Return the fixes that a case with these markers is marked with."""
    words = [str(word) for word in markers.get("fixed_by", ())]
    return [Fix(*triple) for triple in zip(words[::3], words[1::3], words[2::3], strict=True)]


def rules_of(markers: Mapping[str, Sequence[Any]]) -> tuple[str, ...]:
    """Return the rules that a case with these markers checks."""
    return tuple(dict.fromkeys(str(rule) for rule in markers.get("rule", ())))


def concerns(
    markers: Mapping[str, Sequence[Any]], rules: Sequence[str], fixes: Sequence[str]
) -> bool:
    """Return whether a case with these markers checks one of *rules* or needs one of *fixes*."""
    return any(rule in rules for rule in rules_of(markers)) or any(
        fix.is_named(text) for fix in fixes_of(markers) for text in fixes
    )


@dataclass(frozen=True, slots=True)
class Known:
    """What a digest is made with."""

    #: Id -> sentence.
    rules: dict[str, str] = field(default_factory=dict)
    fixes: list[Fix] = field(default_factory=list)

    def missing(self, rules: Sequence[str], fixes: Sequence[str]) -> str:
        """Return what is wrong with these values of --rule and --fixed-by, empty for nothing."""
        for rule in rules:
            if rule not in self.rules:
                return f"--rule {rule}: no such rule\nhint: {_CASES}/RULES.md has them all"
        for text in fixes:
            if not any(fix.is_named(text) for fix in self.fixes):
                return (
                    f"--fixed-by {text}: not a fix that a case needs\n"
                    f"hint: {_CASES}/fixes.py has them all; give the first digits of a commit, or"
                    " words of its subject"
                )
        return ""


def known(checkout: Path) -> Known:
    """Return the rules and fixes of *checkout*; of one without the files, none."""
    found = Known()
    with suppress(OSError, SyntaxError):
        text = (checkout / _CASES / "RULES.md").read_text(encoding="utf-8")
        found.rules.update(parse_rules(text))
        source = (checkout / _CASES / "fixes.py").read_text(encoding="utf-8")
        found.fixes.extend(parse_fixes(source))
    return found
