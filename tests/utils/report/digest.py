# SPDX-License-Identifier: GPL-2.0-only
"""A run in rules and fixes: which are broken, which are missing, what happened, each cause once.

Pure functions from cases to a :class:`Digest`; digest_text.py has its lines. Failures that no
missing fix explains come first. A fix can explain a failure of the cases that are marked with it
where the kernel's release is older than the fix; of a release that should have it, such a failure
is as unexplained as any other, and names the fix.

Failures have one cause when the same call deviated in the same way, or when the rule that is broken
is the same. That is the rule which a helper has found broken, where cases of its own fail, too;
else one that all of them check, or the one most of whose own cases fail.
"""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from tests.utils.deviation import Deviation
from tests.utils.report.case import Case

#: A row of the table in RULES.md: id, sentence, cases.
_ROW = re.compile(r"^\| (?P<id>[A-Z]+\d+) \| (?P<rule>.+?) \|")
#: Outcomes of a case that has put its question to the kernel, and of one that shows a rule kept or
#: broken: a failure that is waived, or known everywhere, is neither.
_ANSWERED = frozenset(["passed", "failed", "error", "timeout", "xfailed", "xpassed"])
_DECIDED = _ANSWERED - {"xfailed"}


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


class _Share(NamedTuple):
    """How many of a rule's own cases failed, of how many that ran."""

    failed: int
    ran: int

    @property
    def part(self) -> float:
        """All of them are 1."""
        return self.failed / self.ran


@dataclass(slots=True)
class _Failure:
    """A case that failed."""

    case: Case
    rules: tuple[str, ...]
    deviation: Deviation
    #: The fixes that may explain it, and those that are due in the kernel's release.
    may_lack: list[Fix] = field(default_factory=list)
    due: list[Fix] = field(default_factory=list)


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
    failures = [_failure(case, release) for case in ran if case.bad]
    decided = (case for case in ran if case.outcome in _DECIDED)
    counts = Counter(rule for case in decided for rule in rules_of(case.markers))
    failed = Counter(rule for one in failures for rule in one.rules)
    lacking = _lacking(failures)
    explained = [one for one in failures if any(fix in lacking for fix in one.may_lack)]
    rest = [one for one in failures if one not in explained]
    newer = [one for one in rest if "newer" in one.case.markers]
    rest = [one for one in rest if one not in newer]
    shares = {rule: _Share(failed[rule], counts[rule]) for rule in failed}
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
        tuple(_causes(rest, shares)),
        tuple(
            replace(cause, newer=str(newer[0].case.markers["newer"][0]))
            for cause in _causes(newer, shares)
        ),
        tuple(_lack(fix, [one for one in explained if fix in one.may_lack]) for fix in lacking),
        tuple(has),
        tuple(fix for fix in others if fix not in has),
        tuple(_findings(ran)),
    )


def _failure(case: Case, release: str) -> _Failure:
    deviation = Deviation(**case.deviation) if case.deviation else Deviation(came=case.headline)
    one = _Failure(case, rules_of(case.markers), deviation)
    for fix in fixes_of(case.markers):
        (one.due if fix.is_due_in(release) else one.may_lack).append(fix)
    return one


# --- fixes ---------------------------------------------------------------------------------------


def _lacking(failures: Sequence[_Failure]) -> list[Fix]:
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


def _lack(fix: Fix, failures: Sequence[_Failure]) -> Cause:
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


# --- causes --------------------------------------------------------------------------------------


def _causes(failures: Sequence[_Failure], shares: Mapping[str, _Share]) -> list[Cause]:
    """Return the causes of *failures*: those first that break all of a rule and fail most cases.

    :param shares: those of the rules that are broken.
    """
    alike: defaultdict[str, list[_Failure]] = defaultdict(list)
    for one in failures:
        alike[one.deviation.cause].append(one)
    by_rule: defaultdict[str, list[_Failure]] = defaultdict(list)
    for cause, group in alike.items():
        by_rule[_rule_of(group, shares) or cause].extend(group)
    found = [(_weight(rule, group, shares), _cause(rule, group)) for rule, group in by_rule.items()]
    return [cause for _, cause in sorted(found, key=lambda pair: -pair[0])]


def _weight(rule: str, group: Sequence[_Failure], shares: Mapping[str, _Share]) -> float:
    return len(group) * (shares[rule].part if rule in shares else 1.0)


def _rule_of(group: Sequence[_Failure], shares: Mapping[str, _Share]) -> str:
    """Return the rule that failures of the same deviation are about, empty for none."""
    counts = Counter(rule for one in group for rule in one.rules)
    common = [rule for rule, count in counts.items() if count == len(group)]
    hints = Counter(one.deviation.rule for one in group if one.deviation.rule)
    found = max(hints, key=lambda rule: hints[rule], default="")
    # Cases of that rule fail, too: it is not what these alone are about.
    if found and (found in common or not common or found in shares):
        return found
    among = common or list(counts)
    return max(among, key=lambda rule: _evidence(rule, counts, shares, bool(common)), default="")


def _evidence(
    rule: str, counts: Mapping[str, int], shares: Mapping[str, _Share], common: bool
) -> tuple[float, ...]:
    """Return how much speaks for a rule: of those that all cases check, the part of its own that
    failed; else the cases that check it, here and elsewhere."""
    share = shares[rule]
    return (share.part,) if common else (counts[rule], share.failed, share.part)


def _cause(rule: str, group: Sequence[_Failure]) -> Cause:
    counts = Counter(one for failure in group for one in failure.rules)
    known = rule if rule in counts or any(one.deviation.rule == rule for one in group) else ""
    said = [one for one in group if one.deviation.rule == rule]
    own = said or [one for one in group if rule in one.rules] or group
    lines = Counter(one.deviation.cause for one in own)
    first = next(one for one in own if one.deviation.cause == lines.most_common(1)[0][0])
    common = [other for other, count in counts.items() if count == len(group) and other != known]
    fixes = [(*one.due, *one.may_lack) for one in group]
    return Cause(
        (*([known] if known else []), *common),
        tuple(other for other, _ in counts.most_common() if other not in (known, *common)),
        tuple(one.case.id for one in group),
        first.deviation.line,
        len({one.deviation.cause for one in group}) - 1,
        # Where others fail so, too, it is not for want of a fix.
        tuple(dict.fromkeys(fix for marks in fixes for fix in marks)) if all(fixes) else (),
    )


def _findings(cases: Iterable[Case]) -> list[OpenFinding]:
    """Return what became of the cases that show an open finding."""
    return [
        OpenFinding(
            rules_of(case.markers), str(case.markers["finding"][0]), case.outcome == "xpassed"
        )
        for case in cases
        if "finding" in case.markers and case.outcome in ("xfailed", "xpassed")
    ]
