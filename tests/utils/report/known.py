# SPDX-License-Identifier: GPL-2.0-only
"""The rules and fixes that the kernel cases know: read from their files, and nothing imported."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.utils.report.digest import Fix, parse_fixes, parse_rules

_CASES = "tests/open_tree_ns"


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
