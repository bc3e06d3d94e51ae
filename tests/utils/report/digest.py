# SPDX-License-Identifier: GPL-2.0-only
"""A run in rules and fixes: which are broken, which are missing, what happened, each cause once.

Pure functions from cases to a :class:`Digest`; digest_text.py has its lines. Failures that no
missing fix explains come first. A fix can explain a failure of the cases that are marked with it
where the kernel's release is older than the fix; of a release that should have it, such a failure
is as unexplained as any other, and names the fix. causes.py says what one cause is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tests.utils.report.case import Case
from tests.utils.report.causes import Cause, Failure, Share, causes_of, failure_of, lack_of
from tests.utils.report.known import Fix, fixes_of, rules_of

#: Outcomes of a case that has put its question to the kernel, and of one that shows a rule kept or
#: broken: a failure that is waived, or known everywhere, is neither.
_ANSWERED = frozenset(["passed", "failed", "error", "timeout", "xfailed", "xpassed"])
_DECIDED = _ANSWERED - {"xfailed"}


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and its own cases, of those that had an answer."""

    id: str
    sentence: str
    failed: int
    ran: int
    #: What happened in the first that failed.
    happened: str = ""


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """A gap in current kernels that is known (docs/findings.md)."""

    rules: tuple[str, ...]
    title: str
    #: Whether this kernel has closed it.
    closed: bool


@dataclass(frozen=True, slots=True)
class Digest:
    """The whole."""

    #: Every rule that a case was to check.
    rules: tuple[Rule, ...] = ()
    #: Failures that no missing fix explains, and of a kernel that knows more than the suite.
    unexplained: tuple[Cause, ...] = ()
    newer: tuple[Cause, ...] = ()
    #: The fixes that this kernel lacks, with what shows it; that it has; that nothing shows.
    lacks: tuple[Cause, ...] = ()
    has: tuple[Fix, ...] = ()
    unknown: tuple[Fix, ...] = ()
    findings: tuple[OpenFinding, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no case told anything of a rule, a fix or a finding."""
        return self.is_clean and not self.rules and not self.findings

    @property
    def is_clean(self) -> bool:
        """Whether no case failed."""
        return not (self.unexplained or self.newer or self.lacks)

    @property
    def fix_states(self) -> dict[str, str]:
        """Every known fix as text -> "there", "lacking" or "unknown"."""
        lacking = {str(cause.fixes[0]): "lacking" for cause in self.lacks}
        unknown = {str(fix): "unknown" for fix in self.unknown}
        return {**lacking, **{str(fix): "there" for fix in self.has}, **unknown}

    @property
    def rule_states(self) -> dict[str, str]:
        """Every rule of which cases ran: its id -> "kept" or "broken"."""
        return {rule.id: "broken" if rule.failed else "kept" for rule in self.rules}

    @property
    def broken(self) -> list[Rule]:
        """The rules that a case found broken."""
        return [rule for rule in self.rules if rule.failed]

    @property
    def kept(self) -> list[Rule]:
        """The rules of which cases ran, and none failed."""
        return [rule for rule in self.rules if rule.ran and not rule.failed]


def digest(
    cases: Iterable[Case],
    rules: Mapping[str, str],
    known: Sequence[Fix] = (),
    release: str = "",
) -> Digest:
    """Return the digest of a run.

    :param rules: id -> sentence.
    :param known: the fixes there are, of those too that no case of this run is marked with.
    :param release: of the kernel, empty where it is not known.
    """
    ran = [case for case in cases if case.outcome in _ANSWERED and not case.unreached]
    failures = [failure_of(case, release) for case in ran if case.bad]
    decided = (case for case in ran if case.outcome in _DECIDED)
    counts = Counter(rule for case in decided for rule in rules_of(case.markers))
    failed = Counter(rule for one in failures for rule in one.rules)
    lacking = _lacking(failures)
    explained = [one for one in failures if any(fix in lacking for fix in one.may_lack)]
    rest = [one for one in failures if one not in explained]
    newer = [one for one in rest if "newer" in one.case.markers]
    rest = [one for one in rest if one not in newer]
    shares = {rule: Share(failed[rule], counts[rule]) for rule in failed}
    happened = {rule: one.deviation.line for one in reversed(failures) for rule in one.rules}
    marked = (fix for case in ran for fix in fixes_of(case.markers))
    others = [fix for fix in dict.fromkeys([*known, *marked]) if fix not in lacking]
    has = [fix for fix in others if _is_shown(fix, ran, lacking)]
    return Digest(
        tuple(
            Rule(id, rules.get(id, ""), failed[id], counts[id], happened.get(id, ""))
            for id in dict.fromkeys([*rules, *counts])
            if counts[id]
        ),
        tuple(causes_of(rest, shares)),
        tuple(
            replace(cause, newer=str(newer[0].case.markers["newer"][0]))
            for cause in causes_of(newer, shares)
        ),
        tuple(lack_of(fix, [one for one in explained if fix in one.may_lack]) for fix in lacking),
        tuple(has),
        tuple(fix for fix in others if fix not in has),
        tuple(_findings(ran)),
    )


# --- fixes ---------------------------------------------------------------------------------------


def _lacking(failures: Sequence[Failure]) -> list[Fix]:
    """Return the fixes whose absence explains failures, those that explain most of them first."""
    # What happens in cases without a fix, too, has another cause.
    elsewhere = {one.deviation.cause for one in failures if not one.may_lack}
    own = [one for one in failures if one.may_lack and one.deviation.cause not in elsewhere]
    found = dict.fromkeys(one.may_lack[0] for one in own if len(one.may_lack) == 1)
    for one in own:
        if not any(fix in found for fix in one.may_lack):
            found.update(dict.fromkeys(one.may_lack))
    weight = Counter(fix for one in failures for fix in one.may_lack)
    return sorted(found, key=lambda fix: -weight[fix])


def _is_shown(fix: Fix, ran: Sequence[Case], lacking: Sequence[Fix]) -> bool:
    """Return whether a case shows that *fix* is there, and the failures of others its absence."""
    marked = [(case, fixes) for case in ran if fix in (fixes := fixes_of(case.markers))]
    bad = [fixes for case, fixes in marked if case.bad]
    passed = [fixes for case, fixes in marked if case.outcome in ("passed", "xpassed")]
    if not bad:
        return bool(passed)
    return [fix] in passed and all(any(one in lacking for one in fixes) for fixes in bad)


def _findings(cases: Iterable[Case]) -> list[OpenFinding]:
    """Return what became of the cases that show an open finding."""
    return [
        OpenFinding(
            rules_of(case.markers), str(case.markers["finding"][0]), case.outcome == "xpassed"
        )
        for case in cases
        if "finding" in case.markers and case.outcome in ("xfailed", "xpassed")
    ]
