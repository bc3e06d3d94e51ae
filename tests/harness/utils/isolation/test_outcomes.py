# SPDX-License-Identifier: GPL-2.0-only
"""Isolated cases report as if they had run in the pytest process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.helpers.suite import PLUGIN, RunCases


def test_a_case_runs_in_another_process(run_cases: RunCases, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    run = run_cases(f"def test(): open({str(note)!r}, 'w').write(str(os.getppid()))")
    assert run.outcomes() == [
        ("test", "setup", "passed"),
        ("test", "call", "passed"),
        ("test", "teardown", "passed"),
    ]
    assert run.ret == 0
    assert note.exists()


def test_changes_do_not_reach_the_next_case(run_cases: RunCases) -> None:
    run = run_cases(
        """
    state = []
    def test_one(): state.append(1); os.environ["LEAK"] = "1"; os.chdir("/")
    def test_two(): assert not state and "LEAK" not in os.environ and os.getcwd() != "/"
    """.replace("\n    ", "\n")
    )
    assert run.ret == 0, run.text


def test_a_failure_is_introspected(run_cases: RunCases) -> None:
    run = run_cases("def test():\n    value = {'a': 1}\n    assert value == {'a': 2}")
    report = run.report("test")
    assert report.failed
    crash = report.longrepr.reprcrash  # type: ignore[union-attr]
    assert crash is not None
    assert crash.message.startswith("AssertionError: assert {'a': 1} == {'a': 2}")
    assert crash.lineno == 6
    assert ">       assert value == {'a': 2}" in run.text.replace(">   assert", ">       assert")
    assert "{'a': 1} != {'a': 2}" in run.text
    assert "FAILED" in run.text
    assert run.ret == 1


def test_skips_keep_their_reason_and_place(run_cases: RunCases) -> None:
    run = run_cases(
        "def test_inside():\n    pytest.skip('from inside')\n"
        "@pytest.mark.skip(reason='from a mark')\ndef test_mark(): pass\n"
        "@pytest.mark.skipif('True', reason='from a condition')\ndef test_if(): pass\n",
        "-rs",
    )
    assert isinstance(run.report("test_inside").longrepr, tuple)
    assert isinstance(run.report("test_mark", "setup").longrepr, tuple)
    for line, reason in ((5, "inside"), (6, "a mark"), (8, "a condition")):
        assert re.search(rf"SKIPPED \[1\] \S+py:{line}: from {reason}", run.text), run.text
    assert [name for name, when, _ in run.outcomes() if when == "call"] == ["test_inside"]


def test_a_case_skipped_beforehand_costs_no_process(
    run_cases: RunCases, monkeypatch: pytest.MonkeyPatch, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        "import pytest\n"
        "def pytest_isolation_precheck(item):\n"
        "    if item.name == 'test_hook': pytest.skip('by the hook')\n"
    )
    monkeypatch.setattr("os.fork", lambda: pytest.fail("forked"))
    run = run_cases(
        "@pytest.mark.skip\ndef test_mark(): pass\n"
        "def test_hook(): pass\n"
        "@pytest.mark.xfail(run=False)\ndef test_not_run(): pass\n",
        "-rs",
    )
    assert [(case, outcome) for case, when, outcome in run.outcomes() if when == "setup"] == [
        ("test_mark", "skipped"),
        ("test_hook", "skipped"),
        ("test_not_run", "skipped"),
    ]
    assert re.search(r"SKIPPED \[1\] test_\w+\.py:6: by the hook", run.text), run.text
    assert run.ret == 0


def test_the_precheck_is_asked_for_other_items_too(
    run_cases: RunCases, pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(
        "import pytest\ndef pytest_isolation_precheck(item): pytest.skip('not here')"
    )
    run = run_cases("def test(): pass", header="")
    assert run.report("test", "setup").skipped
    assert "not here" in str(run.report("test", "setup").longrepr)


def test_expected_failures(run_cases: RunCases) -> None:
    run = run_cases(
        "@pytest.mark.xfail(reason='known')\ndef test_fails(): assert 0\n"
        "@pytest.mark.xfail(reason='known')\ndef test_passes(): pass\n"
        "@pytest.mark.xfail(reason='known', strict=True)\ndef test_strict(): pass\n"
        "@pytest.mark.xfail(reason='known', raises=OSError)\ndef test_other(): assert 0\n"
        "@pytest.mark.xfail(reason='known')\ndef test_dies(): os._exit(1)\n"
        "def test_calls_xfail(): pytest.xfail('on second thought')\n",
    )
    assert (run.report("test_fails").outcome, run.report("test_fails").wasxfail) == (
        "skipped",
        "known",
    )
    assert run.report("test_passes").passed
    assert run.report("test_strict").longrepr == "[XPASS(strict)] known"
    assert run.report("test_other").failed
    assert run.report("test_dies").wasxfail == "known"
    assert "on second thought" in run.report("test_calls_xfail").wasxfail


def test_errors_in_fixtures(run_cases: RunCases) -> None:
    run = run_cases("""
@pytest.fixture
def broken(): raise OSError(5, "set-up")
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "tear-down")
def test_broken(broken): pass
def test_breaks(breaks): pass
def test_missing(no_such_fixture): pass
""")
    assert run.outcomes() == [
        ("test_broken", "setup", "failed"),
        ("test_broken", "teardown", "passed"),
        ("test_breaks", "setup", "passed"),
        ("test_breaks", "call", "passed"),
        ("test_breaks", "teardown", "failed"),
        ("test_missing", "setup", "failed"),
        ("test_missing", "teardown", "passed"),
    ]
    assert "ERROR at setup of test_broken" in run.text
    assert "ERROR at teardown of test_breaks" in run.text
    assert "fixture 'no_such_fixture' not found" in run.text


def test_output_and_log_are_captured(run_cases: RunCases) -> None:
    run = run_cases("""
import logging
@pytest.fixture
def fixture(): print("from set-up"); yield; print("from tear-down")
def test(fixture):
    print("from call"); os.write(2, b"from below\\n"); logging.error("logged"); assert 0
""")
    assert dict(run.report("test").sections) == {
        "Captured stdout setup": "from set-up\n",
        "Captured stdout call": "from call\n",
        "Captured stderr call": "from below\n",
        "Captured log call": run.report("test").caplog,
    }
    assert "logged" in run.report("test").caplog
    assert ("Captured stdout teardown", "from tear-down\n") in run.report(
        "test", "teardown"
    ).sections


def test_output_is_seen_as_it_is_without_capture(
    run_cases: RunCases, pytester: pytest.Pytester
) -> None:
    run_cases("def test(): print('from the case', end='')", "--collect-only")
    done = pytester.runpytest_subprocess(*PLUGIN, "-s")
    done.stdout.fnmatch_lines(["*from the case*"])
    assert done.stdout.str().count("from the case") == 1
    assert done.stdout.str().count("test session starts") == 1


def test_capture_fixtures_work(run_cases: RunCases) -> None:
    run = run_cases("""
def test_sys(capsys): print("x"); assert capsys.readouterr().out == "x\\n"
def test_fd(capfd): os.write(1, b"y"); assert capfd.readouterr().out == "y"
def test_log(caplog):
    import logging
    logging.warning("z"); assert caplog.messages == ["z"]
""")
    assert run.ret == 0, run.text


def test_warnings_arrive_and_filters_hold(run_cases: RunCases) -> None:
    run = run_cases("""
class Odd(UserWarning):
    def __init__(self, one, two): super().__init__(f"{one} {two}")
def test_plain(): warnings.warn("careful")
def test_odd():
    class Local(Odd): pass
    warnings.warn(Odd("odd", "class")); warnings.warn(Local("local", "class"))
@pytest.mark.filterwarnings("error:fatal")
def test_error(): warnings.warn("fatal")
@pytest.mark.filterwarnings("ignore:quiet")
def test_ignored(): warnings.warn("quiet")
def test_before_death(): warnings.warn("too late"); os._exit(1)
""")
    assert run.warnings == ["careful", "odd class", "local class"]
    assert "Local: local class" in run.text
    assert run.report("test_error").failed
    assert run.report("test_ignored").passed


def test_properties_and_ids(run_cases: RunCases) -> None:
    run = run_cases("""
@pytest.mark.parametrize("value", [1, "two words", None], ids=["one", "a b", "none"])
def test(value, record_property): record_property("value", value); record_property("at", sys)
""")
    names = [case for case, when, _ in run.outcomes() if when == "call"]
    assert names == ["test[one]", "test[a b]", "test[none]"]
    assert run.report("test[one]").user_properties[0] == ("value", 1)
    # What cannot travel arrives as text.
    assert "module 'sys'" in str(run.report("test[one]").user_properties[1])


def test_temporary_directories_share_one_base(run_cases: RunCases) -> None:
    run = run_cases(
        "def test_one(tmp_path, record_property): record_property('base', str(tmp_path.parent))\n"
        "def test_two(tmp_path, record_property): record_property('base', str(tmp_path.parent))\n"
    )
    bases = {str(run.report(case).user_properties) for case in ("test_one", "test_two")}
    assert len(bases) == 1


def test_subtests(run_cases: RunCases) -> None:
    pytest.importorskip("_pytest.subtests", reason="subtests came with pytest 9")
    run = run_cases("""
def test(subtests):
    for number in range(3):
        with subtests.test("even", number=number): assert number % 2 == 0
""")
    outcomes = [report.outcome for report in run.reports if report.when == "call"]
    assert outcomes == ["passed", "failed", "passed", "failed"]
    assert "contains 1 failed subtest" in run.text
    # As the case gave it, and not the text of a text.
    assert "SUBFAILED[even] (number=1) " in run.text
