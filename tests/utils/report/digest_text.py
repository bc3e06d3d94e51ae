# SPDX-License-Identifier: GPL-2.0-only
"""The lines of a digest, for a terminal; and its fields, for a file."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from tests.utils.report.causes import Cause
from tests.utils.report.digest import Digest, Rule
from tests.utils.report.known import Fix

#: Lines of one screen; a digest that takes more is shortened where that loses least.
SCREEN = 40
#: What is said of each missing fix besides its name: all, or less where there are many.
_ALL = frozenset(["calls", "sentences"])
_DETAILS = (_ALL, frozenset(["calls"]), frozenset[str]())
#: Causes that are shown in full, and rules that each names.
_CAUSES, _RULES = 5, 2


def lines(digest: Digest, width: int = 100, verbose: bool = False) -> list[str]:
    """Return the digest as lines, as many as fit on a screen; with *verbose* all there are."""
    if not digest.rules and not digest.unexplained:
        return []
    if verbose:
        return list(_lines(digest, width, verbose=True))
    found: list[str] = []
    for detail in _DETAILS:
        found = list(_lines(digest, width, detail))
        if len(found) <= SCREEN:
            break
    return found


def _lines(
    digest: Digest, width: int, detail: frozenset[str] = _ALL, *, verbose: bool = False
) -> Iterator[str]:
    rules = _Rules(digest.rules, width)
    gaps = [finding for finding in digest.findings if not finding.closed]
    if digest.is_clean and not verbose:
        open_rules = ", ".join(rule for finding in gaps for rule in finding.rules)
        told = f"; open finding{'s' if len(gaps) > 1 else ''} {open_rules} (docs/findings.md)"
        yield headline(digest) + (told if gaps else "")
        gaps = []
    else:
        yield headline(digest)
    if digest.unexplained:
        count = sum(len(cause.cases) for cause in digest.unexplained)
        yield f"no missing fix explains {_failures(count)}:"
        most = None if verbose else _CAUSES
        for cause in digest.unexplained[:most]:
            yield from _cause(cause, rules, width, verbose)
        if rest := digest.unexplained[len(digest.unexplained) if most is None else most :]:
            names = dict.fromkeys(rule for cause in rest for rule in cause.rules)
            count = sum(len(cause.cases) for cause in rest)
            yield _cut(f"  and {_failures(count)} more, of {', '.join(names) or 'no rule'}", width)
    for cause in digest.newer:
        yield f"perhaps no fault: {cause.newer} ({_failures(len(cause.cases))}):"
        yield from _cause(cause, rules, width, verbose)
    if digest.lacks:
        yield "fixes that this kernel lacks:"
    for cause in digest.lacks:
        yield f"  {cause.fixes[0]}"
        if "calls" in detail:
            head = f"      {_named(cause)}: "
            yield head + (cause.happened if verbose else brief(cause.happened, width - len(head)))
        if "sentences" in detail:
            for rule in cause.rules[: None if verbose else 1]:
                yield from rules.sentence(rule)
    yield from _fixes("fixes that no case shows", digest.unknown, verbose)
    if verbose:
        yield from _fixes("fixes that this kernel has", digest.has, verbose)
    for finding in gaps:
        yield f"open finding {', '.join(finding.rules)}: this kernel shows the gap: {finding.title}"
    for finding in digest.findings:
        if finding.closed:
            yield f"good news: {', '.join(finding.rules)}: this kernel has closed the gap:"
            yield f"  {finding.title} (docs/findings.md)"


def headline(digest: Digest) -> str:
    """Return the digest in one line, which is all of it where nothing is wrong."""
    parts = [f"{len(digest.kept)} {'rule' if len(digest.kept) == 1 else 'rules'} kept"]
    if digest.broken:
        parts.append(f"{len(digest.broken)} broken")
    parts.append(f"{len(digest.has)} known {'fix' if len(digest.has) == 1 else 'fixes'} there")
    if digest.lacks:
        parts.append(f"{len(digest.lacks)} lacking")
    if digest.unknown:
        parts.append(f"{len(digest.unknown)} unknown")
    return ", ".join(parts)


def _failures(count: int) -> str:
    return "1 failure" if count == 1 else f"{count} failures"


def _cut(text: str, width: int, verbose: bool = False) -> str:
    return text if verbose or len(text) <= width else f"{text[: width - 4].rstrip()} ..."


def brief(happened: str, width: int) -> str:
    """Return what happened in at most *width* characters: less of the arguments, both ends."""
    text = happened
    for usual in ("AT_FDCWD, ", "|OPEN_TREE_CLOEXEC"):
        text = text.replace(usual, "")
    if len(text) <= width:
        return text
    # What came stands at the end.
    tail = text[max(text.rfind("expected "), len(text) - width * 2 // 3) :]
    return f"{text[: width - len(tail) - 5].rstrip()} ... {tail}"[:width]


def _cause(cause: Cause, rules: _Rules, width: int, verbose: bool) -> Iterator[str]:
    count = len(cause.cases)
    head = "  " + (f"{cause.rules[0]}: " if cause.rules else "")
    if count > 1:
        head += f"{count} cases, {_causes(cause)}: "
    yield head + (cause.happened if verbose else brief(cause.happened, 2 * width - len(head)))
    for rule in cause.rules[: None if verbose else _RULES]:
        yield from rules.sentence(rule)
    if cause.passing:
        yield _cut(
            f"      in passing: {', '.join(map(rules.share, cause.passing))}", width, verbose
        )
    for fix in cause.fixes[: None if verbose else 1]:
        yield f"      as without {fix}"
    if verbose:
        yield from (f"      {case}" for case in cause.cases)


def _causes(cause: Cause) -> str:
    return f"in {cause.others + 1} ways" if cause.others else "one cause"


def _named(cause: Cause) -> str:
    """Return the rules that the lack of a fix breaks, with the number of cases."""
    count = len(cause.cases)
    return f"{', '.join(cause.rules[:3])}, {'1 case' if count == 1 else f'{count} cases'}"


class _Rules:
    """The rules as lines; the sentence of each is shown once."""

    def __init__(self, rules: Sequence[Rule], width: int) -> None:
        self._rules = {rule.id: rule for rule in rules}
        self._width = width
        self._shown: set[str] = set()

    def share(self, name: str) -> str:
        """Return the rule with the number of its own cases that failed, and that ran."""
        rule = self._rules.get(name)
        return f"{name} ({rule.failed} of {rule.ran})" if rule else name

    def sentence(self, name: str) -> Iterator[str]:
        """Yield what the rule says, the first time that it is asked for."""
        rule = self._rules.get(name)
        if rule is None or not rule.sentence or name in self._shown:
            return
        self._shown.add(name)
        yield from textwrap.wrap(
            f"{name} ({rule.failed} of {rule.ran} cases): {rule.sentence}",
            self._width,
            initial_indent=" " * 6,
            subsequent_indent=" " * 10,
            max_lines=2,
            placeholder=" ...",
        )


def _fixes(title: str, fixes: Sequence[Fix], verbose: bool) -> Iterator[str]:
    if fixes and verbose:
        yield f"{title}:"
        yield from (f"  {fix}" for fix in fixes)


def as_json(digest: Digest) -> dict[str, Any]:
    """Return the digest's fields as JSON has them; of rules those that are broken."""
    return {
        "headline": headline(digest),
        "rules_broken": [asdict(rule) for rule in digest.broken],
        "rules_kept": [rule.id for rule in digest.kept],
        "unexplained": [asdict(cause) for cause in digest.unexplained],
        "newer": [asdict(cause) for cause in digest.newer],
        "fixes_lacking": [asdict(cause) for cause in digest.lacks],
        "fixes_there": [asdict(fix) for fix in digest.has],
        "fixes_unknown": [asdict(fix) for fix in digest.unknown],
        "open_findings": [asdict(finding) for finding in digest.findings],
    }


def properties(digest: Digest) -> dict[str, object]:
    """Return what a report for other programs has of the digest, as few texts."""
    return {
        "digest": headline(digest),
        "rules_broken": [f"{rule.id}: {rule.sentence}" for rule in digest.broken],
        "fixes_lacking": [str(cause.fixes[0]) for cause in digest.lacks],
        "unexplained": [
            f"{', '.join(cause.rules)}: {cause.happened}" for cause in digest.unexplained
        ],
    }
