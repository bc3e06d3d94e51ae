# SPDX-License-Identifier: GPL-2.0-only
"""What ends a run, and pytest's own options and plugins, with isolated cases as without them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.harness.helpers.suite import PLUGIN, RunCases


def test_exit_in_a_case_ends_the_run(run_cases: RunCases) -> None:
    run = run_cases("def test_one(): pytest.exit('enough', returncode=7)\ndef test_two(): pass")
    assert run.ret == 7
    assert "Exit: enough" in run.text
    assert "test_two" not in [case for case, _, _ in run.outcomes()]


def test_an_interrupt_in_a_case_ends_the_run(
    run_cases: RunCases, pytester: pytest.Pytester
) -> None:
    run_cases("def test_one(): raise KeyboardInterrupt\ndef test_two(): pass", "--collect-only")
    done = pytester.runpytest_subprocess(*PLUGIN)
    assert done.ret == pytest.ExitCode.INTERRUPTED
    done.stdout.fnmatch_lines(["*no tests ran*"])


def test_first_failure_ends_the_run_on_request(run_cases: RunCases) -> None:
    run = run_cases("def test_one(): os._exit(1)\ndef test_two(): pass\n", "-x")
    assert run.ret == 1
    assert {case for case, _, _ in run.outcomes()} == {"test_one"}
    assert "stopping after 1 failures" in run.text


def test_last_failed(run_cases: RunCases) -> None:
    source = "def test_bad(): os.kill(os.getpid(), 9)\ndef test_good(): pass"
    run_cases(source)
    again = run_cases(source, "--lf")
    assert {case for case, _, _ in again.outcomes()} == {"test_bad"}


def test_durations(run_cases: RunCases) -> None:
    run = run_cases(
        "@pytest.fixture\ndef slow(): time.sleep(0.02)\ndef test(slow): pass",
        "--durations=1",
    )
    assert re.search(r"0\.\d\ds setup +\S+::test", run.text)
    assert run.report("test", "setup").duration >= 0.02


def test_debugger_and_forked_are_refused(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    run_cases("def test(): pass", "--collect-only")
    for option in ("--pdb", "--trace"):
        refused = pytester.runpytest_subprocess(*PLUGIN, option)
        assert refused.ret == pytest.ExitCode.USAGE_ERROR
        refused.stderr.fnmatch_lines(
            [f"ERROR: {option} needs the terminal*", "hint: *not isolated*"]
        )
    # Stands in for pytest-forked.
    pytester.makeconftest(
        "def pytest_addoption(parser): parser.addoption('--forked', action='store_true')"
    )
    refused = pytester.runpytest_subprocess(*PLUGIN, "--forked")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["ERROR: --forked*", "hint: *pytest_forked*"])


MIXED = """
import logging
@pytest.fixture
def shared(): print("shared up"); yield 1; print("shared down")
@pytest.fixture
def own(shared): print("own up"); yield 2; print("own down")
@pytest.fixture
def broken(): raise OSError(5, "broken")
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
@pytest.fixture
def per_class(): print("class up"); yield; print("class down")
def test_pass(own, record_property): print("said"); record_property("key", "value")
def test_fail(own):
    print("said"); logging.error("logged")
    assert {"own": own} == {"own": 3}
def test_skip(): pytest.skip("no")
@pytest.mark.skip(reason="never")
def test_mark(): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(strict=True, reason="known")
def test_xpass(): pass
def test_broken(broken): pass
def test_broken_too(broken): pass
def test_breaks(breaks): assert 0
@pytest.mark.parametrize("value", ["a", "b"])
class TestClass:
    def test_method(self, value, per_class): raise ValueError(value) from OSError(1, "cause")
"""


def junit(path: Path) -> list[str]:
    """The test cases of a JUnit file, as XML without times and addresses."""
    cases = list(ET.parse(path).iter("testcase"))
    for case in cases:
        for element in case.iter():
            element.attrib.pop("time", None)
    return [re.sub(r"0x[0-9a-f]+", "0x", ET.tostring(case, "unicode")) for case in cases]


def test_junit_equals_that_of_plain_pytest(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    options = ("-o", "junit_logging=all", "-o", "junit_family=xunit1")
    run_cases(MIXED, "--collect-only")
    pytester.runpytest_subprocess(*PLUGIN, "--junitxml=isolated.xml", *options)
    pytester.makeini("[pytest]\nmarkers = isolated")
    pytester.runpytest_subprocess("--junitxml=plain.xml", *options)
    isolated, plain = junit(pytester.path / "isolated.xml"), junit(pytester.path / "plain.xml")
    # Eleven cases, and one of them twice: it fails in call and in tear-down.
    assert len(plain) == 12
    assert isolated == plain


def test_workers(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    run_cases(MIXED, "--collect-only")
    alone = pytester.runpytest_subprocess(*PLUGIN, "-rA").parseoutcomes()
    shared = pytester.runpytest_subprocess(*PLUGIN, "-n2", "-Werror::DeprecationWarning")
    assert shared.parseoutcomes() == alone
    assert "fork" not in shared.stderr.str()


def test_works_without_the_optional_plugins(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    run_cases(MIXED, "--collect-only")
    full = pytester.runpytest_subprocess(*PLUGIN).parseoutcomes()
    without = [
        f"-pno:{name}"
        for name in (
            "xdist",
            "timeout",
            "cacheprovider",
            "logging",
            "warnings",
            "faulthandler",
        )
    ]
    bare = pytester.runpytest_subprocess(*PLUGIN, *without)
    assert bare.parseoutcomes() == full
