# SPDX-License-Identifier: GPL-2.0-only
"""Failures of one cause, and the rule that they are about.

Failures have one cause when the same call deviated in the same way, or when the rule that is broken
is the same. That is the rule which a helper has found broken, where cases of its own fail, too;
else one that all of them check, or the one most of whose own cases fail.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.utils.deviation import Deviation
from tests.utils.report.case import Case
from tests.utils.report.known import Fix, fixes_of, rules_of


@dataclass(frozen=True, slots=True)
class Cause:
    """Failures of one cause."""

    #: The rules that are broken, the one it is about first; those touched in passing.
    rules: tuple[str, ...]
    passing: tuple[str, ...]
    #: Ids of the cases.
    cases: tuple[str, ...]
    #: What happened, in calls; and in how many other ways it showed.
    happened: str
    others: int = 0
    #: Fixes without which a kernel fails so.
    fixes: tuple[Fix, ...] = ()
    #: What a kernel newer than the suite may have: every case of the cause says so.
    newer: str = ""


class Share(NamedTuple):
    """How many of a rule's own cases failed, of how many that ran."""

    failed: int
    ran: int

    @property
    def part(self) -> float:
        """All of them are 1."""
        return self.failed / self.ran


@dataclass(slots=True)
class Failure:
    """A case that failed."""

    case: Case
    rules: tuple[str, ...]
    deviation: Deviation
    #: The fixes that may explain it, and those that are due in the kernel's release.
    may_lack: list[Fix] = field(default_factory=list)
    due: list[Fix] = field(default_factory=list)


def failure_of(case: Case, release: str) -> Failure:
    """Return the failure of *case* on a kernel of this release."""
    deviation = Deviation(**case.deviation) if case.deviation else Deviation(came=case.headline)
    one = Failure(case, rules_of(case.markers), deviation)
    for fix in fixes_of(case.markers):
        (one.due if fix.is_due_in(release) else one.may_lack).append(fix)
    return one


def causes_of(failures: Sequence[Failure], shares: Mapping[str, Share]) -> list[Cause]:
    """Return the causes of *failures*: those first that break all of a rule and fail most cases.

    :param shares: those of the rules that are broken.
    """
    alike: defaultdict[str, list[Failure]] = defaultdict(list)
    for one in failures:
        alike[one.deviation.cause].append(one)
    by_rule: defaultdict[str, list[Failure]] = defaultdict(list)
    for cause, group in alike.items():
        by_rule[_rule_of(group, shares) or cause].extend(group)
    found = [
        (_weight(rule, group, shares), _cause(rule, group, shares))
        for rule, group in by_rule.items()
    ]
    return [cause for _, cause in sorted(found, key=lambda pair: -pair[0])]


def _weight(rule: str, group: Sequence[Failure], shares: Mapping[str, Share]) -> float:
    return len(group) * (shares[rule].part if rule in shares else 1.0)


def _rule_of(group: Sequence[Failure], shares: Mapping[str, Share]) -> str:
    """Return the rule that failures of the same deviation are about, empty for none."""
    counts = Counter(rule for one in group for rule in one.rules)
    common = [rule for rule, count in counts.items() if count == len(group)]
    told = _told(group)
    # Cases of that rule fail, too: it is not what these alone are about.
    if broken := _broken(told, shares):
        return broken[0]
    if told and not common:
        return told[0]
    if not common and not group[0].deviation.call:
        return ""  # the machine's trouble, or that of a helper
    among = common or list(counts)
    return max(among, key=lambda rule: _evidence(rule, counts, shares, bool(common)), default="")


def _told(group: Sequence[Failure]) -> list[str]:
    """Return the rules of which one is broken by what a helper found in most of the failures."""
    told = Counter(one.deviation.rule for one in group if one.deviation.rule)
    return max(told, key=lambda rules: told[rules], default="").split()


def _broken(rules: Sequence[str], shares: Mapping[str, Share]) -> list[str]:
    """Return those of *rules* of which cases fail, the one first of which most do."""
    return sorted((r for r in rules if r in shares), key=lambda rule: -shares[rule].part)


def _evidence(
    rule: str, counts: Mapping[str, int], shares: Mapping[str, Share], common: bool
) -> tuple[float, ...]:
    """Return how much speaks for a rule: of those that all cases check, the part of its own that
    failed; else the cases that check it, here and elsewhere."""
    share = shares[rule]
    return (share.part,) if common else (counts[rule], share.failed, share.part)


def _cause(rule: str, group: Sequence[Failure], shares: Mapping[str, Share]) -> Cause:
    counts = Counter(one for failure in group for one in failure.rules)
    said = [one for one in group if rule in one.deviation.rule.split()]
    known = rule if rule in counts or said else ""
    own = said or [one for one in group if rule in one.rules] or group
    lines = Counter(one.deviation.cause for one in own)
    first = next(one for one in own if one.deviation.cause == lines.most_common(1)[0][0])
    about = [*([known] if known else []), *_broken(_told(group), shares)]
    about += [other for other, count in counts.items() if count == len(group)]
    fixes = [(*one.due, *one.may_lack) for one in group]
    return Cause(
        tuple(dict.fromkeys(about)),
        tuple(other for other, _ in counts.most_common() if other not in about),
        tuple(one.case.id for one in group),
        first.deviation.line,
        len({one.deviation.cause for one in group}) - 1,
        # Where others fail so, too, it is not for want of a fix.
        tuple(dict.fromkeys(fix for marks in fixes for fix in marks)) if all(fixes) else (),
    )


def lack_of(fix: Fix, failures: Sequence[Failure]) -> Cause:
    """Return what shows that the kernel lacks *fix*."""
    alone = [one for one in failures if one.may_lack == [fix]] or failures
    counts = Counter(rule for one in alone for rule in one.rules)
    rules = tuple(rule for rule, count in counts.most_common() if count * 2 > len(alone))
    lines = Counter(one.deviation.cause for one in alone)
    first = next(one for one in alone if one.deviation.cause == lines.most_common(1)[0][0])
    return Cause(
        rules or first.rules,
        tuple(rule for rule in counts if rule not in rules),
        tuple(one.case.id for one in failures),
        first.deviation.line,
        len(lines) - 1,
        (fix,),
    )
