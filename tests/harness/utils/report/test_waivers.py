# SPDX-License-Identifier: GPL-2.0-only
"""`--waive`: a known failure is expected, an unneeded waiver is told, a bad file is refused."""

from __future__ import annotations

import pytest

from tests.harness.helpers.suite import HEADER, PLUGIN
from tests.utils.report.waivers import Waiver, parse

PLUGINS = (
    *PLUGIN,
    "-p",
    "tests.utils.report.waiver_plugin",
    "-p",
    "tests.utils.report.ktap_plugin",
)
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
CASES = (
    HEADER
    + """
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
@pytest.mark.parametrize("who", ["owner", "foreign"])
def test_fails(who): assert 0
def test_dies(): os.kill(os.getpid(), signal.SIGKILL)
@pytest.mark.timeout(0.3)
def test_hangs(): time.sleep(60)
def test_tear_down(breaks): pass
def test_skipped(): pytest.skip("not here")
def test_passes(): pass
"""
)


def file(*cases: str, kernel: str = "") -> str:
    """A file that waives *cases*."""
    extra = f'kernel = "{kernel}"\n' if kernel else ""
    return "".join(f'[[waive]]\ncase = "{case}"\nreason = "known"\n{extra}\n' for case in cases)


def run(pytester: pytest.Pytester, text: str, *arguments: str) -> pytest.RunResult:
    """Run CASES with the waivers of *text*."""
    pytester.makepyfile(test_cases=CASES)
    (pytester.path / "waive.toml").write_text(text)
    return pytester.runpytest_subprocess(*PLUGINS, "--waive", "waive.toml", *arguments)


@WORKERS
def test_waived_failures_are_expected_ones(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    cases = ("fails[[]*]", "dies", "hangs", "tear_down", "skipped")
    text = file(*(f"test_cases.py::test_{case}".replace("[[]", "[") for case in cases))
    done = run(pytester, text, *workers, "--ktap=out")
    assert done.ret == 0
    assert done.parseoutcomes() == {"passed": 2, "skipped": 1, "xfailed": 5}
    done.stdout.fnmatch_lines(["test_cases.py::test_dies: waived: known"])
    done.stdout.no_fnmatch_line("waiver not needed*")
    ktap = (pytester.path / "out").read_text()
    assert "test_cases.py::test_fails[owner] # XFAIL waived : known" in ktap.replace(
        "waived:", "waived :"
    )
    assert "not ok" not in ktap


@WORKERS
def test_a_waiver_not_needed_is_told(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    text = file("test_cases.py::test_passes", "test_cases.py::test_gone", "*::test_hangs")
    done = run(pytester, text, *workers, "-k", "passes or fails")
    assert done.ret == 1
    done.stdout.fnmatch_lines(
        [
            "waiver not needed: test_cases.py::test_passes: passed",
            "waiver not needed: test_cases.py::test_gone: there is no such case",
        ]
    )
    # It has a case, which is left out of this run.
    done.stdout.no_fnmatch_line("*not needed*test_hangs*")


def test_a_waiver_for_other_kernels_is_none(pytester: pytest.Pytester) -> None:
    done = run(pytester, file("*::test_fails*", kernel="<2.6"), "-k", "fails")
    assert done.parseoutcomes() == {"failed": 2, "deselected": 5}
    done.stdout.no_fnmatch_line("*waive*not*")


@pytest.mark.parametrize(
    ("kernel", "release", "holds"),
    [
        ("", "7.1.0", True),
        (">=7.0,<7.2.11", "7.0.0-rc1", True),
        (">=7.0,<7.2.11", "7.2.10-1-default", True),
        (">=7.0,<7.2.11", "7.2.11", False),
        (">=7.0 , < 7.2.11", "6.19.5", False),
        ("==7.2", "7.2.0+", True),
        ("!=7.2.3", "7.2.3-arch1", False),
        (">7.2", "7.10", True),
        ("<=7", "7.0.0", True),
    ],
)
def test_kernel_ranges(kernel: str, release: str, holds: bool) -> None:
    assert Waiver("case", "reason", kernel).holds_on(release) is holds


@pytest.mark.parametrize(
    ("case", "nodeid", "covers"),
    [
        ("a.py::test[x]", "a.py::test[x]", True),
        ("a.py::test[*]", "a.py::test[x-y]", True),
        ("a.py::test[x]", "a.py::testx", False),
        ("*::test_?", "a.py::test_b", True),
        ("a.py::test", "b/a.py::test", False),
        ("a.py::TEST", "a.py::test", False),
    ],
)
def test_patterns(case: str, nodeid: str, covers: bool) -> None:
    assert Waiver(case, "reason").covers(nodeid, {}) is covers


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[[waive]", "not TOML: *"),
        ("waive = 1", "[[]waive] must be [[][[]waive]]: *"),
        ("waive = [1]", "[[][[]waive]] number 1 is no table"),
        ("[[waiver]]", "unknown key 'waiver'*"),
        ('[[waive]]\ncase = "a"', "[[][[]waive]] number 1 has no reason"),
        ('[[waive]]\nreason = "a"', "[[][[]waive]] number 1 has no case, rule or fixed_by"),
        (file("a") + '[[waive]]\ncase = "a"\nreason = " "', "*number 2: reason must be a text*"),
        (file("a") + 'until = "7.2"', "*number 1: unknown key 'until'*"),
        (file("a", kernel="7.2"), "*number 1: kernel '7.2' is no range*"),
    ],
)
def test_a_bad_file_is_refused(pytester: pytest.Pytester, text: str, problem: str) -> None:
    done = run(pytester, text)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"ERROR: --waive waive.toml: {problem}"])
    assert len([line for line in done.stderr.lines if line]) == 1


def test_a_missing_file_is_refused(pytester: pytest.Pytester) -> None:
    done = run(pytester, "", "--waive", "nowhere.toml")
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines(["ERROR: --waive nowhere.toml: No such file or directory"])


def test_no_waiver_is_a_file_too() -> None:
    assert parse(b"# none at present\n") == []
