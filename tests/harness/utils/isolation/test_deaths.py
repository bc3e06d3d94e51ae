# SPDX-License-Identifier: GPL-2.0-only
"""A case that dies, hangs, forks or leaves something behind is told so, and the next one runs."""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.helpers.running import NEXT, a_running_suite, assert_complete
from tests.harness.helpers.suite import PLUGIN, RunCases

PHASES = """
@pytest.fixture
def phases():
    die("setup")
    yield
    die("teardown")
def test(phases): die("call")
"""


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
@pytest.mark.parametrize(
    ("act", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL in {}"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV in {}"),
        ("os.abort()", "killed by SIGABRT in {}"),
        ("os._exit(3)", "exited with status 3 in {} without a report"),
        ("os._exit(0)", "exited with status 0 in {} without a report"),
    ],
)
def test_death_is_told_with_its_phase(run_cases: RunCases, phase: str, act: str, told: str) -> None:
    run = run_cases(
        f"def die(phase):\n    if phase == {phase!r}: print('last words'); {act}\n" + PHASES + NEXT
    )
    report = run.report("test", phase)
    assert report.failed
    crash = report.longrepr.reprcrash  # type: ignore[union-attr]
    assert crash is not None
    assert crash.message.replace(" (core dumped)", "") == told.format(phase)
    assert (f"Captured stdout {phase}", "last words\n") in report.sections
    expected = {
        "setup": [("setup", "failed"), ("teardown", "passed")],
        "call": [("setup", "passed"), ("call", "failed"), ("teardown", "passed")],
        "teardown": [("setup", "passed"), ("call", "passed"), ("teardown", "failed")],
    }
    assert [(when, outcome) for case, when, outcome in run.outcomes() if case == "test"] == (
        expected[phase]
    )
    assert_complete(run)


def test_the_stacks_of_a_crash_are_shown(run_cases: RunCases) -> None:
    run = run_cases("def test_crash(): os.kill(os.getpid(), signal.SIGSEGV)" + NEXT)
    text = run.report("test_crash").longreprtext
    assert "Segmentation fault" in text
    assert "in test_crash" in text
    assert "in call_and_report" not in text


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_hang_is_ended_with_its_stacks(run_cases: RunCases, phase: str) -> None:
    pytest.importorskip("pytest_timeout")
    run = run_cases(
        f"def die(phase):\n    if phase == {phase!r}: print('waiting'); signal.pause()\n"
        + PHASES
        + NEXT,
        "--timeout=2",
    )
    report = run.report("test", phase)
    assert report.failed
    assert f"Timeout (>2 s) in {phase}" in report.longreprtext
    assert "in die" in report.longreprtext
    assert (f"Captured stdout {phase}", "waiting\n") in report.sections
    assert_complete(run)


def test_a_hang_that_blocks_signals_is_ended(run_cases: RunCases) -> None:
    pytest.importorskip("pytest_timeout")
    run = run_cases(
        """
@pytest.mark.timeout(1)
def test_some():
    numbers = {signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    signal.pause()
@pytest.mark.timeout(1)
def test_all():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if os.fork() == 0: signal.pause()
    signal.pause()
"""
        + NEXT
    )
    assert "in test_some" in run.report("test_some").longreprtext
    assert "No Python stacks: SIGRTMAX had no effect" in run.report("test_all").longreprtext
    assert_complete(run)


def test_the_limit_may_hold_for_the_call_alone(run_cases: RunCases) -> None:
    pytest.importorskip("pytest_timeout")
    run = run_cases(
        """
@pytest.fixture
def slow(): time.sleep(1.2)
@pytest.mark.timeout(1, func_only=True)
def test_short(slow): pass
@pytest.mark.timeout(1, func_only=True)
def test_long(slow): signal.pause()
@pytest.mark.timeout(1)
def test_fixture_too(slow): pass
"""
        + NEXT
    )
    assert run.report("test_short").passed
    assert "Timeout (>1 s) in call" in run.report("test_long").longreprtext
    assert "Timeout (>1 s) in setup" in run.report("test_fixture_too", "setup").longreprtext
    assert_complete(run)


def test_output_for_ever_is_cut(run_cases: RunCases) -> None:
    run = run_cases("def test_floods():\n    print('x' * (3 << 20)); os._exit(1)" + NEXT)
    ((_, text),) = run.report("test_floods").sections
    assert len(text) == 1 << 20
    assert_complete(run)


def test_rubbish_among_the_events_is_noticed(run_cases: RunCases) -> None:
    run = run_cases(
        """
def test_writes_everywhere():
    for name in os.listdir("/proc/self/fd"):
        try:
            if "memfd" in os.readlink("/proc/self/fd/" + name):
                os.write(int(name), b"\\xff" * 64)
        except OSError: pass
    signal.pause()
"""
        + NEXT
    )
    assert "reports cannot be read" in run.report("test_writes_everywhere").longreprtext
    assert_complete(run)


def test_closing_the_events_is_noticed(run_cases: RunCases) -> None:
    run = run_cases("def test_closes(): os.closerange(3, 1000)" + NEXT)
    assert "exited with status 70 in call" in run.report("test_closes").longreprtext
    assert_complete(run)


def test_a_process_left_behind_fails_the_teardown(run_cases: RunCases, tmp_path: Path) -> None:
    # The pipe's end shows when the last process that has it is gone.
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    run = run_cases(
        f"""
def test_leaves():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: signal.pause()
        os._exit(0)
def test_child():
    if os.fork() == 0:
        os.execv({sys.executable!r}, ["left-behind", "-c", "import signal; signal.pause()"])
def test_tidy():
    pid = os.fork()
    if pid == 0: os._exit(0)
def test_slow():
    r, w = os.pipe()
    if os.fork() == 0:
        os.close(w); os.read(r, 1); os._exit(0)
"""
        + NEXT
    )
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() == b""
    assert run.report("test_leaves").passed
    for case in ("test_leaves", "test_child"):
        report = run.report(case, "teardown")
        assert report.failed
        assert "the case left processes behind" in report.longreprtext
        assert "PID " in report.longreprtext
    assert "left-behind -c" in run.report("test_child", "teardown").longreprtext
    assert run.report("test_tidy", "teardown").passed
    assert_complete(run)


def test_a_forked_process_never_runs_the_suite(run_cases: RunCases, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run = run_cases(
        f"""
def note(text):
    with open({str(note)!r}, "a") as file: file.write(text + "\\n")
def ends(status):
    _, code = os.wait()
    assert os.waitstatus_to_exitcode(code) == status
@pytest.fixture
def fixture(request):
    parent = os.getpid()
    if request.param == "setup" and os.fork() == 0: raise ValueError("from set-up")
    yield
    note("torn down")
    if request.param == "teardown" and os.fork() == 0: raise ValueError("from tear-down")
    if os.getpid() == parent: ends(1)
@pytest.mark.parametrize("fixture", ["setup", "teardown"], indirect=True)
def test_fixture(fixture): note("called")
def test_raises():
    if os.fork() == 0: raise ValueError("from call")
    ends(1); note("on")
def test_returns():
    if os.fork() == 0: return
    ends(1); note("on")
def test_exits():
    if os.fork() == 0: sys.exit(5)
    ends(5); note("on")
def test_skips():
    if os.fork() == 0: pytest.skip("no")
    ends(1); note("on")
"""
        + NEXT
    )
    outcomes = [outcome for _, _, outcome in run.outcomes()]
    assert outcomes == ["passed"] * len(outcomes), run.text
    assert_complete(run)
    written = note.read_text().split("\n")
    assert (written.count("called"), written.count("torn down"), written.count("on")) == (2, 2, 4)
    stderr = run.report("test_raises").capstderr
    assert "ValueError: from call" in stderr
    assert "returned from it" in run.report("test_returns").capstderr


@pytest.mark.parametrize("mark", ["", "@pytest.mark.isolated(pid_namespace=False)"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_nothing_outlives_pytest(tmp_path: Path, number: signal.Signals, mark: str) -> None:
    with a_running_suite(tmp_path / "test_hangs.py", mark) as (process, pipe):
        process.send_signal(number)
        ready, _, _ = select.select([pipe], [], [], 30)
        assert ready
        assert os.read(pipe, 1) == b""
        status = process.wait()
    assert status == (pytest.ExitCode.INTERRUPTED if number == signal.SIGINT else -number)


def test_a_worker_is_not_kept_waiting_by_what_a_case_leaves(
    run_cases: RunCases, pytester: pytest.Pytester
) -> None:
    pytest.importorskip("xdist")
    run_cases(
        "def test_leaves():\n    if os.fork() == 0: os.setsid(); signal.pause()\n", "--collect-only"
    )
    # Without an end to the process left behind, this would not return.
    done = pytester.runpytest_subprocess(*PLUGIN, "-n1", timeout=60)
    done.assert_outcomes(passed=1, errors=1)


def test_what_cannot_be_killed_is_said_and_left(
    run_cases: RunCases, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pytest_timeout")
    # Stands in for a process stuck in the kernel.
    for name in ("supervisor", "postmortem"):
        monkeypatch.setattr(f"tests.utils.isolation.{name}.ended", lambda pidfd, seconds: False)
    run = run_cases("@pytest.mark.timeout(1)\ndef test_stuck(): signal.pause()" + NEXT)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    text = run.report("test_stuck").longreprtext
    assert "Timeout (>1 s) in call" in text
    assert "Not gone 10 s after SIGKILL, left behind: PID" in text
    assert "/status:\nName:" in text
    assert_complete(run)
