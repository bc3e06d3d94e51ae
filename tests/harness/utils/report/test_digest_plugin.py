# SPDX-License-Identifier: GPL-2.0-only
"""The digest of plain pytest, the choice of cases by rule and fix, and open findings."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.harness.helpers.suite import CASE_PLUGINS, HEADER, ROOT

PLUGINS = (
    *CASE_PLUGINS,
    *("-p", "tests.utils.report.selection_plugin", "-p", "tests.utils.report.digest_plugin"),
    *("-p", "tests.utils.report.junit_plugin", "-p", "tests.utils.report.waiver_plugin"),
    *("-p", "no:cacheprovider"),
)
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
#: What the cases of a checkout have for known rules and fixes.
RULES = (
    "| id | rule | cases |\n|---|---|---|\n| K1 | None is unmounted. | |\n| K6 | One alone. | |\n"
)
FIXES = 'A = pytest.mark.fixed_by("0123456789ab", "99.9", "mount: stop it")\n'
CASES = (
    HEADER
    + """
from tests.utils.expect import fails
from tests.utils.uapi.constants import CLONE_NEWNS
from tests.utils.uapi.syscalls import setns
@pytest.mark.rule("K1")
@pytest.mark.parametrize("number", [1, 2, 3])
def test_broken(number): fails(1, setns, -1, CLONE_NEWNS)
@pytest.mark.rule("K6")
@pytest.mark.fixed_by("0123456789ab", "99.9", "mount: stop it")
def test_fixed(): raise OSError(22, "umount2")
@pytest.mark.rule("K6")
def test_good(): pass
@pytest.mark.rule("K6")
@pytest.mark.finding("It uncovers")
def test_gap(): assert not GAP
def test_other(): pass
"""
)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)


def run(
    pytester: pytest.Pytester, *arguments: str, gap: bool = True, cases: str = CASES
) -> pytest.RunResult:
    """Run *cases* in a checkout with RULES and FIXES."""
    folder = pytester.mkpydir("tests")
    (folder / "__init__.py").unlink()
    known = folder / "open_tree_ns"
    known.mkdir()
    (known / "RULES.md").write_text(RULES)
    (known / "fixes.py").write_text(FIXES)
    pytester.makepyfile(test_cases=f"GAP = {gap}\n{cases}")
    return pytester.runpytest_subprocess(*PLUGINS, *arguments, "--rootdir", str(pytester.path))


@WORKERS
def test_the_digest_is_a_section_of_its_own(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    done = run(pytester, *workers, "--junitxml=out.xml")
    done.stdout.fnmatch_lines(
        [
            "*= rules and fixes =*",
            "0 rules kept, 2 broken, 0 known fixes there, 1 lacking",
            "no missing fix explains 3 failures:",
            "  K1: 3 cases, one cause: setns(fd -1, CLONE_NEWNS): expected EPERM, got EBADF",
            "      K1 (3 of 3 cases): None is unmounted.",
            "fixes that this kernel lacks:",
            '  0123456789ab ("mount: stop it") (99.9)',
            "open finding K6: this kernel shows the gap: It uncovers",
        ]
    )
    suite = ElementTree.parse(pytester.path / "out.xml").find("testsuite")
    assert suite is not None
    said = {p.get("name"): p.get("value", "") for p in suite.findall("properties/property")}
    assert said["fixes_lacking"] == '["0123456789ab (\\"mount: stop it\\") (99.9)"]'
    assert "K1: None is unmounted." in said["rules_broken"]


def test_there_is_no_section_where_every_case_was_skipped(pytester: pytest.Pytester) -> None:
    skipped = '@pytest.mark.rule("K6")\ndef test_skipped(): pytest.skip("no kernel")\n'
    done = run(pytester, cases=HEADER + skipped)
    assert done.parseoutcomes() == {"skipped": 1}
    done.stdout.no_fnmatch_line("*rules and fixes*")


def test_the_cases_of_a_finding_fail_no_run(pytester: pytest.Pytester) -> None:
    shows = run(pytester, "-k", "gap or good")
    assert shows.ret == 0
    shows.stdout.fnmatch_lines(
        ["1 rule kept, *; open finding K6 (docs/findings.md)", "*1 passed*1 xfailed*"]
    )


def test_a_kernel_that_has_closed_a_gap_is_told_so(pytester: pytest.Pytester) -> None:
    closed = run(pytester, "-k", "gap", gap=False)
    assert closed.ret == 0
    closed.stdout.fnmatch_lines(["good news: K6: *", "  It uncovers (docs/findings.md)"])
    assert closed.parseoutcomes()["xpassed"] == 1


def test_a_run_without_a_rule_has_none(pytester: pytest.Pytester) -> None:
    run(pytester, "-k", "other").stdout.no_fnmatch_line("*rules and fixes*")


@WORKERS
@pytest.mark.parametrize(
    ("words", "passed", "bad", "left"),
    [
        (("--rule", "K1"), 0, 3, 4),
        (("--rule", "K6"), 1, 1, 4),
        (("--rule", "K1", "--rule", "K6"), 1, 4, 1),
        (("--fixed-by", "01234567"), 0, 1, 6),
        (("--fixed-by", "stop it"), 0, 1, 6),
    ],
)
def test_cases_are_chosen_by_rule_and_fix(
    pytester: pytest.Pytester,
    workers: tuple[str, ...],
    words: tuple[str, ...],
    passed: int,
    bad: int,
    left: int,
) -> None:
    found = run(pytester, *workers, *words).parseoutcomes()
    assert (found.get("passed", 0), found.get("failed", 0)) == (passed, bad)
    if not workers:
        assert found["deselected"] == left


@pytest.mark.parametrize(
    "words", [("--rule", "K9"), ("--fixed-by", "ffff")], ids=["rule", "fixed-by"]
)
def test_a_rule_or_fix_that_is_not_is_a_mistake(
    pytester: pytest.Pytester, words: tuple[str, ...]
) -> None:
    done = run(pytester, *words)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"*{' '.join(words)}: *", "hint: *"])


@WORKERS
def test_a_rule_or_a_fix_is_waived(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    waivers = (('rule = "K1"', "known"), ('fixed_by = "01234567"', "known"), ('rule = "K9"', "no"))
    text = "".join(f'[[waive]]\n{what}\nreason = "{why}"\n' for what, why in waivers)
    (pytester.path / "waive.toml").write_text(text)
    done = run(pytester, *workers, "--waive=waive.toml")
    assert done.ret == 0
    assert done.parseoutcomes()["xfailed"] == 5
    done.stdout.fnmatch_lines(["waiver not needed: rule K9: there is no such case"])
    # What is waived is neither broken nor shown to be good.
    done.stdout.fnmatch_lines(["1 rule kept, 0 known fixes there, 1 unknown; *"])
