# SPDX-License-Identifier: GPL-2.0-only
"""A case during which the kernel complains fails, in whatever process and report.

The kernel's log is a file here, in which a case writes what a kernel would have said.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.harness.helpers.kernel import CONFTEST, WARNING, add, stand_in
from tests.harness.helpers.suite import HEADER, RunCases, SuiteRun
from tests.utils.tasks.case_name import case_name
from tests.utils.watch import kernel_log
from tests.utils.watch.kernel_log import KernelLog, Record
from tests.utils.watch.kernel_plugin import Session

WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
PLUGINS = tuple(
    word
    for name in (
        "watch.kernel_plugin",
        "probes.plugin",
        "report.markers",
        "report.waiver_plugin",
        "report.ktap_plugin",
        "report.junit_plugin",
    )
    for word in ("-p", f"tests.utils.{name}")
)
CASES = HEADER + "from conftest import say, say_as_a_program, taint, task\n"


@pytest.fixture
def kernel(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel's log, a file."""
    stand_in(pytester.path)
    # For this process too, where it is undone.
    monkeypatch.setattr(kernel_log, "LOG", pytester.path / "kmsg")
    monkeypatch.setattr(kernel_log, "TAINT", pytester.path / "tainted")
    return kernel_log.LOG


@pytest.fixture
def run(run_cases: RunCases, kernel: Path) -> Callable[..., SuiteRun]:
    """Run the given source as isolated cases, watched."""

    def run(source: str, *arguments: str) -> SuiteRun:
        return run_cases(source, *PLUGINS, "-p", "no:cacheprovider", *arguments, header=CASES)

    return run


OUTCOMES = f"""
@pytest.fixture
def warns_late():
    yield
    warn()
@pytest.fixture
def broken(): warn(); raise OSError(5, "broken")
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
def warn(): say("------------[ cut here ]------------", {WARNING!r}, task(), "Call Trace:")
def test_quiet(): say("ordinary", "proc: VFS: Mount too revealing")
def test_quiet_beside_a_program(): say_as_a_program({WARNING!r})
def test_passes(): print("said by the case"); warn()
def test_late(warns_late): pass
def test_fails(): warn(); assert 1 == 2
def test_broken(broken): pass
def test_breaks(breaks): warn()
def test_skips(): warn(); pytest.skip("not here")
@pytest.mark.xfail(strict=True, reason="known")
def test_xfails(): warn(); assert 0
@pytest.mark.xfail(strict=True, reason="known")
def test_xpasses(): warn()
def test_dies(): warn(); os.kill(os.getpid(), signal.SIGKILL)
@pytest.mark.timeout(2)
def test_hangs(): warn(); signal.pause()
def test_waived(): warn()
def test_last(): pass
"""
#: Case -> its outcome in KTAP, and how its failure begins.
COMPLAINED = f"the kernel complained: {WARNING}"
EXPECTED = {
    "quiet": ("ok", ""),
    "quiet_beside_a_program": ("ok", ""),
    "passes": ("not ok", COMPLAINED),
    "late": ("not ok", COMPLAINED),
    "fails": ("not ok", "assert 1 == 2"),
    "broken": ("not ok", "OSError: [Errno 5] broken"),
    "breaks": ("not ok", "OSError: [Errno 5] breaks"),
    "skips": ("not ok", COMPLAINED),
    "xfails": ("not ok", COMPLAINED),
    "xpasses": ("not ok", "[XPASS(strict)] known"),
    "dies": ("not ok", "killed by SIGKILL in call"),
    "hangs": ("not ok", "Timeout (>2 s) in call"),
    "waived": ("ok", ""),
    "last": ("ok", ""),
}


@WORKERS
def test_every_outcome_in_every_report(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("pytest_timeout")
    waiver = '[[waive]]\ncase = "*::test_waived"\nreason = "known"\n'
    (pytester.path / "waive.toml").write_text(waiver)
    done = run(OUTCOMES, *workers, "--waive=waive.toml", "--junitxml=junit.xml", "--ktap=ktap")
    assert done.ret == 1

    results = (pytester.path / "ktap").read_text().splitlines()
    results = [line for line in results if line.startswith(("ok", "not ok"))]
    assert len(results) == len(EXPECTED), results
    junit = ElementTree.parse(pytester.path / "junit.xml")
    for name, (result, begins) in EXPECTED.items():
        case = f"test_{name}"
        (line,) = (line for line in results if f"::{case} " in line)
        assert line.startswith(f"{result} "), line
        reports = [one for one in done.reports if one.nodeid.endswith(f"::{case}")]
        failed = [one for one in reports if one.failed]
        (element,) = junit.findall(f".//testcase[@name='{case}']")
        bad = [*element.findall("failure"), *element.findall("error")]
        assert len(failed) == len(bad) == int(result == "not ok")
        for report, entry in zip(failed, bad, strict=True):
            crash = getattr(report.longrepr, "reprcrash", None)
            said = crash.message if crash is not None else str(report.longrepr)
            assert said.partition("\n")[0].removesuffix(" (core dumped)") == begins
            for text in (kernel_log_of(report), entry.text or ""):
                assert f"[    1.500000] {WARNING}" in text
                assert "before the run" not in text
    assert "wasxfail" in vars(done.report("test_waived"))
    # What the report would have had without the kernel is still there.
    assert ("Captured stdout call", "said by the case\n") in done.report("test_passes").sections
    assert "pytest 'test_every" in dict(done.report("test_passes").sections)["reproduce"]
    assert "of the session" not in done.text


def test_a_complaint_stops_a_run_with_x(run: Callable[..., SuiteRun]) -> None:
    done = run(f"def test_warns(): say({WARNING!r})\ndef test_next(): pass", "-x")
    assert done.ret == 1
    assert {report.nodeid.partition("::")[2] for report in done.reports} == {"test_warns"}


def test_a_complaint_in_what_comes_before_a_case_is_charged_to_it(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester
) -> None:
    pytester.makeconftest(f"""{CONFTEST}
import pytest
def pytest_isolation_precheck(item):
    if item.name == "test_skipped":
        say({WARNING!r})
        pytest.skip("not here")
""")
    done = run("def test_skipped(): pass\ndef test_next(): pass")
    assert done.report("test_skipped", "setup").failed
    assert done.report("test_next").passed


def test_a_trace_that_is_still_coming_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, kernel: Path
) -> None:
    log = KernelLog()
    add(kernel, 1, "WARNING: one")
    poll = log._poller.poll
    states = iter(["now", "later"])

    class Poller:
        """Has the rest of the trace come when it is waited for."""

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            if next(states, "") == "later":
                assert milliseconds > 0
                add(kernel, 2, "Call Trace:")
            return poll(0)

    monkeypatch.setattr(log, "_poller", Poller())
    assert [record.text for record in log.read()] == ["WARNING: one", "Call Trace:"]
    log.close()


#: Each module runs in a worker of its own: the cases meet, the second ends after the complaint.
PAIR = {
    "test_one": """
def test_one():
    open(HERE / "meet", "w").close()
    {act}
    open(HERE / "told", "w").close()
def test_one_more(): pass
""",
    "test_two": """
def test_two():
    open(HERE / "meet").read()
    open(HERE / "told").read()
def test_two_more(): pass
""",
}


def pair(run: Callable[..., SuiteRun], pytester: pytest.Pytester, act: str) -> SuiteRun:
    """Two cases that run at the same time, one of which does *act*."""
    os.mkfifo(pytester.path / "meet")
    os.mkfifo(pytester.path / "told")
    begin = CASES + "from conftest import HERE\n"
    pytester.makepyfile(
        **{name: begin + source.replace("{act}", act) for name, source in PAIR.items()}
    )
    return run("", "-n", "2", "--dist=loadfile", "test_one.py", "test_two.py")


def kernel_log_of(report: pytest.TestReport) -> str:
    """What *report* shows of the kernel's log."""
    return dict(report.sections)["kernel log"]


def failed_cases(done: SuiteRun) -> list[str]:
    return sorted(one.nodeid.partition("::")[2] for one in done.reports if one.failed)


def test_a_complaint_that_names_a_case_is_charged_to_it_alone(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester
) -> None:
    done = pair(run, pytester, f"say({WARNING!r}, task())")
    assert failed_cases(done) == ["test_one"], done.text
    assert "other workers" not in kernel_log_of(done.report("test_one"))


def test_a_complaint_that_names_nobody_is_charged_to_all_it_came_in(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester
) -> None:
    done = pair(run, pytester, f"say({WARNING!r}, 'CPU: 0 PID: 2 Comm: kworker/0:1')")
    assert failed_cases(done) == ["test_one", "test_two"], done.text
    for case in ("test_one", "test_two"):
        text = kernel_log_of(done.report(case))
        assert "Up to 1 cases of other workers ran at the same time." in text


def test_one_that_names_a_process_of_another_run_fails_the_session(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester
) -> None:
    source = f"def test_other(): say({WARNING!r}, 'CPU: 0 PID: 2 Comm: case-99999999')"
    done = run(source, "--junitxml=junit.xml")
    assert done.ret == 1
    assert failed_cases(done) == [""]
    assert "ERROR at teardown of session" in done.text
    (error,) = ElementTree.parse(pytester.path / "junit.xml").findall(".//error")
    assert WARNING in (error.text or "")


@WORKERS
def test_what_comes_after_the_last_case_fails_the_session(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makeconftest(f"""{CONFTEST}
ended = []
def pytest_runtest_logfinish(nodeid):
    ended.append(nodeid)
    if len(ended) == 2: say({WARNING!r})
""")
    done = run("def test_one(): pass\ndef test_two(): pass", *workers, "--ktap=ktap")
    assert done.ret == 1
    assert "ERROR at teardown of session" in done.text
    assert WARNING in done.text
    assert "not ok 3 session # ERROR" in (pytester.path / "ktap").read_text()


def test_the_process_that_reports_reads_before_all_is_overwritten(kernel: Path) -> None:
    session = Session(follows=True)
    session.pytest_sessionstart()
    add(kernel, 1, WARNING)
    session.pytest_runtest_logfinish()
    kernel.write_text("")
    session.pytest_runtest_logfinish()
    assert [one.message for one in session._left] == [COMPLAINED]
    session.pytest_unconfigure()


@WORKERS
def test_a_log_that_cannot_be_read_is_told_once_and_no_failure(
    run: Callable[..., SuiteRun], pytester: pytest.Pytester, kernel: Path, workers: tuple[str, ...]
) -> None:
    conftest = CONFTEST.replace('LOG = os.open(HERE / "kmsg"', 'LOG = os.open(HERE / "else"')
    pytester.makeconftest(conftest)
    kernel.rename(kernel.with_name("else"))
    done = run(f"def test_one(): say({WARNING!r})\ndef test_two(): pass", "-q", *workers)
    assert done.ret == 0
    assert done.text.count("kernel log not watched: [Errno 2] No such file or directory") == 1


def test_nothing_is_said_of_a_run_without_cases(
    run_cases: RunCases, kernel: Path, pytester: pytest.Pytester
) -> None:
    kernel.unlink()
    pytester.makeconftest("")
    done = run_cases("def test(): pass", *PLUGINS, header="")
    assert done.ret == 0
    assert "kernel log" not in done.text


@pytest.mark.parametrize(
    ("mask", "bad"), [(512 | 32, True), (512 | 1 << 12, False), (512 | 1 << 2 | 1 << 19, False)]
)
def test_new_taint_fails_a_case_unless_it_accuses_nobody(
    run: Callable[..., SuiteRun], mask: int, bad: bool
) -> None:
    done = run(f"def test_taints(): taint({mask})\ndef test_next(): pass")
    assert failed_cases(done) == (["test_taints"] if bad else [])
    assert done.report("test_next").passed
    if bad:
        assert "the kernel has become tainted: 32 (B)" in done.text


def test_taint_that_comes_with_a_complaint_is_told_with_it(run: Callable[..., SuiteRun]) -> None:
    done = run(f"def test_warns(): say({WARNING!r}); taint(512 | 128)")
    text = kernel_log_of(done.report("test_warns"))
    assert WARNING in text
    assert "New taint: 128 (D)" in text


def test_messages_that_were_overwritten_are_told(
    run: Callable[..., SuiteRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = KernelLog.read

    def with_gap(self: KernelLog) -> list[Record]:
        records = read(self)
        self.overwritten = 7 if records else 0
        return records

    monkeypatch.setattr(KernelLog, "read", with_gap)
    done = run("def test_one(): say('ordinary')\ndef test_two(): pass")
    assert done.ret == 0
    assert done.warnings == ["kernel log: at least 7 messages were overwritten before being read"]


def test_a_long_window_is_cut(run: Callable[..., SuiteRun]) -> None:
    lines = "*(f'before {n}' for n in range(50))", repr(WARNING), "*map(str, range(1000))"
    done = run(f"def test_talks(): say({', '.join(lines)})")
    text = "\n" + kernel_log_of(done.report("test_talks"))
    assert "\n[... 30 lines left out ...]\n[    1.500000] before 30\n" in text
    assert text.count("\n[    1.500000]") == 300
    assert "[... 721 lines left out ...]" in text


@pytest.mark.parametrize("mark", ["", "@pytest.mark.isolated(pid_namespace=False)\n"])
def test_a_case_bears_its_workers_name_and_has_no_part_in_the_watch(
    run: Callable[..., SuiteRun], kernel: Path, mark: str
) -> None:
    done = run(f"""
{mark}def test_named():
    assert open("/proc/self/comm").read() == {case_name(os.getpid()) + chr(10)!r}
    own = [f"/proc/self/fd/{{fd}}" for fd in os.listdir("/proc/self/fd")]
    links = [os.readlink(fd) for fd in own if os.path.exists(fd)]
    # One that conftest.py has opened, to write.
    assert links.count({str(kernel)!r}) == 1
""")
    assert done.ret == 0, done.text
