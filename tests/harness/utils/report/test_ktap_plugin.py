# SPDX-License-Identifier: GPL-2.0-only
"""`--ktap` says of every outcome what a TAP reader that is not ours takes it for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.harness.helpers.suite import HEADER, PLUGIN
from tests.harness.helpers.tap_reader import parsed, results

WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
KTAP = (*PLUGIN, "-p", "tests.utils.report.ktap_plugin", "-p", "no:cacheprovider")
CASES = (
    HEADER
    + """
@pytest.fixture
def broken(): raise OSError(5, "broken")
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
def test_pass(): print("not ok 1 said by the case")
def test_fail(): print("said: # SKIP"); assert 1 == 2
def test_set_up(broken): pass
def test_tear_down(breaks): pass
def test_skip(): pytest.skip("no # such feature")
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(reason="known", strict=True)
def test_xpass(): pass
@pytest.mark.timeout(0.3)
def test_timeout(): time.sleep(60)
def test_signal(): os.kill(os.getpid(), signal.SIGSEGV)
@pytest.mark.parametrize("x", range(5), ids=["a b", "a/b", "a#b", "é", "n\\nl"])
def test_id(x): pass
"""
)
#: Case -> (good, directive).
EXPECTED = {
    "test_broken.py": (False, "ERROR ModuleNotFoundError"),
    "test_cases.py::test_pass": (True, ""),
    "test_cases.py::test_fail": (False, ""),
    "test_cases.py::test_set_up": (False, "ERROR OSError: [Errno 5] broken"),
    "test_cases.py::test_tear_down": (False, "ERROR OSError: [Errno 5] breaks"),
    "test_cases.py::test_skip": (True, "SKIP no / such feature"),
    "test_cases.py::test_xfail": (True, "XFAIL known"),
    "test_cases.py::test_xpass": (False, "XPASS known"),
    "test_cases.py::test_timeout": (False, "TIMEOUT Timeout (>0.3 s) in call"),
    "test_cases.py::test_signal": (False, "ERROR killed by SIGSEGV in call"),
    "test_cases.py::test_id[a b]": (True, ""),
    "test_cases.py::test_id[a/b]": (True, ""),
    # What ends a name for a reader is replaced, and two names never become one.
    "test_cases.py::test_id[a/b]_dup2": (True, ""),
    "test_cases.py::test_id[\\xe9]": (True, ""),
    "test_cases.py::test_id[n\\nl]": (True, ""),
}


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    """Run all modules there are, in a process of its own."""
    return pytester.runpytest_subprocess(*KTAP, *arguments)


@WORKERS
def test_every_outcome(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    pytester.makepyfile(test_cases=CASES, test_broken="import no_such_module")
    done = run(pytester, *workers, "--continue-on-collection-errors", "--ktap")
    text = done.stdout.str()
    found = results(text)
    broken = found.pop("test_broken.py")
    assert not broken[0]
    assert broken[1].startswith("ERROR ")
    assert found == {name: end for name, end in EXPECTED.items() if name != "test_broken.py"}
    assert f"1..{len(EXPECTED)}\n" in text
    assert "Bail out!" not in text
    assert "# Totals: pass:6 fail:2 xfail:1 xpass:0 skip:1 error:5" in text
    assert "# | E       ModuleNotFoundError" in text or "# | E   ModuleNotFoundError" in text
    assert done.ret == 1


@WORKERS
def test_the_usual_report_is_there_beside_a_file(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_cases=CASES)
    done = run(pytester, *workers, "--ktap=out.ktap", "--color=yes")
    text = (pytester.path / "out.ktap").read_text()
    assert results(text) == {n: end for n, end in EXPECTED.items() if n != "test_broken.py"}
    assert "\x1b" not in text
    assert "?[" not in text
    assert "short test summary info" in done.stdout.str()
    assert "TAP version" not in done.stdout.str()


def test_diagnostics_come_before_their_result(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_cases=CASES)
    lines = run(pytester, "--ktap", "-k", "fail and not xfail").stdout.lines
    at = next(n for n, line in enumerate(lines) if line.startswith("not ok 1 "))
    assert "# | E   assert 1 == 2" in re.sub(" +assert", "   assert", "\n".join(lines[:at]))
    # What a case has said is shown in a form that is no result.
    assert "# | said: / SKIP" in lines[:at]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("pytest.exit('enough # of it')", "enough / of it"),
    ],
    ids=["Ctrl-C", "exit"],
)
def test_a_lost_session_bails_out(pytester: pytest.Pytester, body: str, reason: str) -> None:
    pytester.makepyfile(f"{HEADER}\ndef test_one(): pass\ndef test_two(): {body}\n")
    text = run(pytester, "--ktap").stdout.str()
    (name,) = results(text)
    assert name.endswith("::test_one")
    assert "1..2\n" in text
    assert f"Bail out! {reason}\n" in text
    assert re.search(r"# \| was running: \S+::test_two\n", text)


@WORKERS
def test_an_internal_error_bails_out(pytester: pytest.Pytester, workers: tuple[str, ...]) -> None:
    pytester.makeconftest("def pytest_runtest_logreport(report): raise OSError(5, 'in a hook')")
    pytester.makepyfile("def test_one(): pass\n")
    done = run(pytester, *workers, "--ktap")
    assert re.search(r"Bail out! internal error: .*in a hook", done.stdout.str())
    assert parsed(done.stdout.str())
    assert done.ret == pytest.ExitCode.INTERNAL_ERROR


@WORKERS
def test_a_run_that_stops_early_bails_out(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(HEADER + "".join(f"def test_{n}(): assert 0\n" for n in range(50)))
    text = run(pytester, *workers, "-x", "--ktap").stdout.str()
    assert results(text)
    assert "1..50\n" in text
    assert "Bail out! stopping after 1 failures\n" in text


def test_a_module_that_is_skipped_or_broken(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_a="import pytest; pytest.skip('not here', allow_module_level=True)",
        test_b="def test(: pass",
        test_c="def test(): pass",
    )
    done = run(pytester, "--ktap")
    found = results(done.stdout.str())
    assert found["test_a.py"] == (True, "SKIP not here")
    assert not found["test_b.py"][0]
    assert "Bail out! 1 error during collection\n" in done.stdout.str()
    assert done.ret == pytest.ExitCode.INTERRUPTED


def test_a_dead_worker_is_an_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("import os\ndef test_one(): os._exit(1)\ndef test_two(): pass\n")
    found = results(run(pytester, "-n", "1", "--ktap").stdout.str())
    assert [good for good, _ in found.values()] == [False, True]


def test_no_case_at_all(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(): pass")
    done = run(pytester, "--ktap", "-k", "nothing")
    assert done.stdout.lines[:2] == ["TAP version 13", "1..0"]
    assert done.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_listing_is_printed_as_ever(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_cases="def test(): pass")
    done = run(pytester, "--ktap", "--collect-only", "-q")
    done.stdout.fnmatch_lines(["test_cases.py::test"])


@pytest.mark.parametrize("target", [".", "test_cases.py", "no/such/folder/file", "a::b"])
def test_a_target_that_cannot_be_meant_is_refused(pytester: pytest.Pytester, target: str) -> None:
    path = pytester.makepyfile(test_cases="def test(): pass")
    before = path.read_text()
    done = run(pytester, "--ktap", target)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    done.stderr.fnmatch_lines([f"ERROR: --ktap={target}: *"])
    assert Path(path).read_text() == before
