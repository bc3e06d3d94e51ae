# SPDX-License-Identifier: GPL-2.0-only
"""The digest: one cause once, the rule that is broken, fixes that are there and lacking."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.helpers.suite import ROOT
from tests.utils.deviation import Deviation
from tests.utils.report import digest_text
from tests.utils.report.case import Case
from tests.utils.report.digest import Digest, digest
from tests.utils.report.known import Fix, known

RULES = {
    "K1": "No mount can be unmounted.",
    "K6": "Only a directory with nothing mounted below it.",
    "R4": "The number of mounts.",
    "C1": "The one mount.",
}
COVERED = Fix("0febe278ec45", "7.2.11", "namespace: keep covered mounts covered")
LOCKS = Fix("c62a4766937e", "7.1", "move_mount: transfer MNT_LOCKED")
BENEATH = Fix("-", "7.3.4", "mount: refuse a thing again")
REFUSED = Deviation("open_tree('/a', OPEN_TREE_NAMESPACE)", "", "EINVAL", "succeeded")
COUNTED = Deviation(came="NS_MNT_GET_INFO counts 5 mounts, listmount lists 4", rule="R4")


def case(
    name: str,
    *rules: str,
    bad: Deviation | None = None,
    fixes: tuple[Fix, ...] = (),
    outcome: str = "",
    **markers: list[Any],
) -> Case:
    """A case that passed, or that failed with a deviation."""
    found: dict[str, list[Any]] = {"rule": list(rules), **markers}
    if fixes:
        found["fixed_by"] = [
            word for fix in fixes for word in (fix.commit, fix.version, fix.subject)
        ]
    return Case(
        name,
        outcome or ("failed" if bad else "passed"),
        markers=found,
        deviation=bad.dump() if bad else {},
    )


def made(*cases: Case, release: str = "7.2.7", fixes: tuple[Fix, ...] = ()) -> Digest:
    return digest(cases, RULES, fixes, release)


def text(found: Digest, **options: Any) -> str:
    return "\n".join(digest_text.lines(found, **options))


# --- fixes ---------------------------------------------------------------------------------------


def test_fixes_are_there_lacking_or_unknown() -> None:
    found = made(
        case("a", "K6", bad=REFUSED, fixes=(COVERED,)),
        case("b", "K1", fixes=(LOCKS,)),
        case("c", "C1", fixes=(BENEATH,), outcome="skipped"),
        fixes=(BENEATH,),
    )
    assert [cause.fixes for cause in found.lacks] == [(COVERED,)]
    assert (found.has, found.unknown) == ((LOCKS,), (BENEATH,))
    assert not found.unexplained
    assert found.fix_states == {
        str(COVERED): "lacking",
        str(LOCKS): "there",
        str(BENEATH): "unknown",
    }
    said = text(found)
    assert f'  0febe278ec45 ("{COVERED.subject}") (7.2.11)\n      K6, 1 case: open_tree(' in said
    assert "K6 (1 of 1 cases): Only a directory with nothing" in said
    assert "1 known fix there, 1 lacking, 1 unknown" in said.splitlines()[0]
    assert str(LOCKS) not in said
    assert str(LOCKS) in text(found, verbose=True)


def test_of_two_fixes_of_a_case_the_one_that_fails_alone_is_lacking() -> None:
    both = (COVERED, LOCKS)
    found = made(
        case("both", "K6", bad=REFUSED, fixes=both),
        case("one", "K6", bad=REFUSED, fixes=(COVERED,)),
        case("other", "K1", fixes=(LOCKS,)),
        release="7.0.1",
    )
    assert [cause.fixes for cause in found.lacks] == [(COVERED,)]
    assert found.has == (LOCKS,)
    # Where no case tells them apart, both are.
    found = made(case("both", "K6", bad=REFUSED, fixes=both), release="7.0.1")
    assert [cause.fixes for cause in found.lacks] == [(COVERED,), (LOCKS,)]


@pytest.mark.parametrize(
    ("release", "version", "due"),
    [
        ("7.2.10", "7.2.11", False),
        ("7.2.11-1-amd64", "7.2.11", True),
        ("7.3.0", "7.2.11", True),
        ("7.3.0-rc2", "7.2.11", False),
        ("7.3.0-rc2", "7.1", True),
        ("7.0.13", "7.1, 7.0.13", True),
        ("7.0.12", "7.1, 7.0.13", False),
        ("7.1.1", "7.1, 7.0.13", True),
        ("7.0.1", "7.0-rc2", True),
        ("6.12.9", "7.0-rc2", False),
        ("", "7.1", False),
    ],
)
def test_a_release_has_the_fixes_of_before(release: str, version: str, due: bool) -> None:
    assert Fix("-", version, "x").is_due_in(release) is due


def test_a_fix_explains_nothing_where_the_kernel_should_have_it() -> None:
    found = made(case("a", "K6", bad=REFUSED, fixes=(COVERED,)), release="7.3.4")
    assert not found.lacks
    assert found.unknown == (COVERED,)
    (cause,) = found.unexplained
    assert (cause.rules, cause.fixes) == (("K6",), (COVERED,))
    assert f"as without {COVERED}" in text(found)


def test_what_fails_without_a_fix_is_not_explained_by_one() -> None:
    """The count of mounts is wrong: a case that a fix is for fails with all others."""
    found = made(
        case("a", "K6", bad=COUNTED, fixes=(COVERED,)),
        case("b", "C1", bad=COUNTED),
        case("c", "R4", bad=COUNTED),
    )
    assert not found.lacks
    (cause,) = found.unexplained
    assert (cause.rules[0], cause.cases) == ("R4", ("a", "b", "c"))


# --- causes --------------------------------------------------------------------------------------


def test_one_cause_is_told_once_by_the_rule_of_the_helper() -> None:
    found = made(
        *(case(f"c{n}", "C1", bad=COUNTED) for n in range(3)),
        case("k", "K1", bad=COUNTED),
        case("k2", "K1"),
    )
    said = text(found, width=100).splitlines()
    assert said[0] == "0 rules kept, 2 broken, 0 known fixes there"
    assert said[1] == "no missing fix explains 4 failures:"
    assert said[2] == f"  R4: 4 cases, one cause: {COUNTED.came}"
    assert "C1 (3 of 3), K1 (1 of 2)" in "\n".join(said)


def test_what_a_helper_finds_counts_where_cases_of_that_rule_fail() -> None:
    elsewhere = (case("a", "K1", bad=COUNTED), case("b", "K1"))
    assert made(*elsewhere).unexplained[0].rules == ("K1",)
    (cause,) = made(*elsewhere, case("c", "R4", bad=COUNTED)).unexplained
    assert (cause.rules, cause.passing) == (("R4",), ("K1",))


def test_what_comes_in_cases_of_any_rule_and_in_no_call_is_about_none() -> None:
    broken = Deviation(came="the cases' surroundings cannot be made")
    (cause,) = made(case("a", "C1", bad=broken), case("b", "K1", bad=broken)).unexplained
    assert (cause.rules, cause.passing) == ((), ("C1", "K1"))


def test_of_rules_that_may_be_broken_the_one_counts_that_is() -> None:
    """A limit is used up: by what a refused call has left, as the cases of that rule show."""
    full = Deviation("open_tree('/a')", "", "success", "got ENOSPC", "R4 K6 K1")
    left = Deviation("listns()", came="found 2")
    found = made(
        case("a", "C1", bad=full),
        case("b", "K6", bad=left),
        case("c", "K6"),
        case("d", "K1", bad=left),
        *(case(f"good{n}", "K1") for n in range(3)),
        case("e", "R4"),
    )
    assert found.unexplained[0].rules == ("K6", "K1")
    assert made(case("a", "C1", bad=full)).unexplained[0].rules == ("C1",)


def test_of_different_rules_the_one_that_fails_elsewhere_counts() -> None:
    """The same deviation in a case of each of three rules; one of these fails otherwise, too."""
    other = Deviation("mount('/a')", "", "EINVAL", "succeeded")
    found = made(
        *(case(rule, rule, bad=REFUSED) for rule in ("C1", "K1", "K6")),
        case("more", "K1", "R4", bad=other),
        case("good", "K1"),
    )
    assert [cause.rules[0] for cause in found.unexplained] == ["K1", "R4"]


def test_paths_and_numbers_make_no_other_cause() -> None:
    other = Deviation("open_tree('/b/c', OPEN_TREE_NAMESPACE)", "", "EINVAL", "succeeded")
    unlike = Deviation("open_tree('/a', OPEN_TREE_NAMESPACE)", "", "EPERM", "succeeded")
    assert REFUSED.cause == other.cause != unlike.cause
    assert Deviation("umount2('/a')").cause != Deviation("mount('/a')").cause


def test_a_rule_all_of_whose_cases_fail_stands_before_one_touched_in_passing() -> None:
    locked = Deviation("umount2('/child', MNT_DETACH)", "", "EINVAL", "succeeded")
    moved = Deviation("move_mount(fd 3, '')", "", "EINVAL", "succeeded")
    found = made(
        case("passing", "C1", bad=Deviation("listmount()", came="found 3")),
        *(case(f"c{n}", "C1") for n in range(9)),
        case("one", "K1", bad=locked),
        case("two", "K1", "C1", bad=moved),
    )
    assert [cause.rules[0] for cause in found.unexplained] == ["K1", "C1"]
    assert text(found).count(RULES["C1"]) == 1  # though two causes are about it
    assert (found.unexplained[0].cases, found.unexplained[0].others) == (("one", "two"), 1)


def test_what_a_newer_kernel_may_know_is_told_as_that() -> None:
    flag = Deviation("open_tree('/a', OPEN_TREE_NAMESPACE|0x10)", "", "EINVAL", "succeeded")
    found = made(case("a", "K1", bad=flag, newer=["a flag"]))
    assert not found.unexplained
    assert "perhaps no fault: a flag (1 failure):" in text(found)


def test_a_failure_without_a_deviation_is_told_by_its_reason() -> None:
    died = Case("a", "error", "Kernel panic while this case ran\nmore", markers={"rule": ["K1"]})
    (cause,) = digest([died], RULES).unexplained
    assert (cause.rules, cause.happened) == (("K1",), "Kernel panic while this case ran")
    lost = Case("b", "error", "did not run", markers={"rule": ["K1"]}, unreached=True)
    assert digest([lost], RULES) == Digest()
    other = Case("session", "error", "a mount was left")
    (cause,) = digest([other], RULES).unexplained
    assert (cause.rules, cause.happened) == ((), "a mount was left")


# --- open findings, and runs where all is well ---------------------------------------------------


def test_open_findings_are_a_line_of_their_own_and_no_failure() -> None:
    gap = ["A copy uncovers it"]
    shown = made(case("a", "K6", outcome="xfailed", finding=gap), case("b", "K1", bad=REFUSED))
    assert "open finding K6: this kernel shows the gap: A copy uncovers it" in text(shown)
    closed = made(case("a", "K6", outcome="xpassed", finding=gap))
    assert "good news: K6: this kernel has closed the gap:" in text(closed)
    assert closed.is_clean
    assert not shown.findings[0].closed


def test_a_run_where_all_is_well_is_one_line() -> None:
    found = made(
        case("a", "K1", fixes=(LOCKS,)), case("b", "K6", outcome="xfailed", finding=["A gap"])
    )
    assert digest_text.lines(found) == [
        "1 rule kept, 1 known fix there; open finding K6 (docs/findings.md)"
    ]
    gaps = [case(of, of, outcome="xfailed", finding=[f"A gap of {of}"]) for of in ("C1", "K6")]
    assert digest_text.lines(made(case("a", "K1"), *gaps)) == [
        "1 rule kept, 0 known fixes there; open findings C1, K6 (docs/findings.md)"
    ]
    assert digest_text.lines(digest([], RULES)) == []


@pytest.mark.parametrize(
    ("count", "calls", "sentences"), [(8, 8, 8), (17, 17, 0), (35, 0, 0)], ids=str
)
def test_a_digest_fits_on_a_screen(count: int, calls: int, sentences: int) -> None:
    fixes = [Fix(f"{n:012x}", "7.9", f"fs: fix number {n}") for n in range(count)]
    rules = {f"X{n}": "It is so." for n in range(count)}
    found = digest(
        [case(f"c{n}", f"X{n}", bad=REFUSED, fixes=(fix,)) for n, fix in enumerate(fixes)],
        rules,
        fixes,
        "7.2.7",
    )
    said = digest_text.lines(found)
    assert len(said) <= digest_text.SCREEN
    assert sum("expected EINVAL, succeeded" in line for line in said) == calls
    assert sum("It is so." in line for line in said) == sentences
    assert all(any(str(fix) in line for line in said) for fix in fixes)
    assert len(digest_text.lines(found, verbose=True)) == 2 + 3 * count


def test_what_came_is_seen_however_long_the_call() -> None:
    long = f"open_tree(AT_FDCWD, '{'x' * 200}', A|OPEN_TREE_CLOEXEC): expected EINVAL, succeeded"
    said = digest_text.brief(long, 80)
    assert len(said) <= 80
    assert said.startswith("open_tree('xxx")
    assert said.endswith("expected EINVAL, succeeded")


# --- what the cases know -------------------------------------------------------------------------


def test_the_projects_rules_and_fixes_are_read() -> None:
    there = known(ROOT)
    assert there.rules["F2"] == "Any other bit is EINVAL."
    assert len(there.fixes) == (ROOT / "tests/open_tree_ns/fixes.py").read_text().count("fixed_by(")
    assert any(fix.is_named("0febe278") and fix.is_named("covered mounts") for fix in there.fixes)
    assert not there.missing(["K6"], ["0febe278"])
    assert "hint: " in there.missing(["K99"], [])
    assert "hint: " in there.missing([], ["ffffffffffff"])
