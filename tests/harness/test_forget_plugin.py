# SPDX-License-Identifier: GPL-2.0-only
"""What is forgotten of cases that are over is missed by nobody: pytest says the same without it.

That it is forgotten is checked in test_isolation_scale.py.
"""

from __future__ import annotations

import re

import pytest

from tests.harness.conftest import ROOT

SUITE = """
import pytest

@pytest.fixture
def noisy():
    print("set up")
    yield
    print("torn down")

@pytest.fixture
def broken(): assert 0

@pytest.fixture
def breaks():
    yield
    assert 0

class Test:
    @pytest.mark.parametrize("n", range(9))
    def test_passes(self, n): pass

def test_says(noisy): print("says")
def test_fails(noisy): assert 0
def test_error(broken): pass
def test_error_after(noisy, breaks): pass
def test_skips(noisy): pytest.skip("not here")
@pytest.mark.skip(reason="nowhere")
def test_skipped(): pass
@pytest.mark.xfail(reason="known")
def test_xfails(noisy): assert 0
@pytest.mark.xfail(reason="unsure")
def test_xpasses(noisy): pass
def test_records(record_property): record_property("name", "value")
"""
HAS_SUBTESTS = pytest.version_tuple >= (9,)
SUBTESTS = """
def test_subtests(noisy, subtests):
    for n in range(3):
        with subtests.test(n=n): assert n != 1
        with subtests.test("skips", n=n): pytest.skip("no")
def test_subtests_pass(subtests):
    for n in range(3):
        with subtests.test(n=n): pass
"""
#: The time a phase takes, in seconds, depends on nothing but its name, and no two take the same.
TIMES = """
import pytest, zlib

@pytest.hookimpl(hookwrapper=True, trylast=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.duration = zlib.crc32(f"{item.nodeid} {call.when}".encode()) % 99991 / 10000
"""
OPTIONS = (
    "",
    "-v --durations=4",
    "-vv --durations=30 --durations-min=5 -rA",
    "-q -rp --tb=line",
    "-rP --tb=short",
    "-rs --no-fold-skipped",
    "-rxX --tb=no --durations=0",
    "--xfail-tb -rN -o console_output_style=count",
    "--no-summary -o console_output_style=classic",
    "--maxfail=2",
    "-o console_output_style=times",
    "-p no:terminal",
)


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    pytester.makepyfile(test_it=SUITE + (SUBTESTS if HAS_SUBTESTS else ""))
    pytester.makeconftest(TIMES)


def run(pytester: pytest.Pytester, *options: str) -> tuple[int, list[str]]:
    """pytest's status and the lines it prints, without what differs from run to run."""
    words = [word for option in options for word in option.split()]
    done = pytester.runpytest_inprocess(*words)
    lines = [
        re.sub(r" in \d+\.\d+s.*", "", re.sub(r"0x[0-9a-f]+", "0x", line)).strip("= ")
        for line in done.outlines
    ]
    return int(done.ret), lines


def both(pytester: pytest.Pytester, *options: str) -> list[tuple[int, list[str]]]:
    """What a run gives as pytest does it, and then with the plugin."""
    forgetting = ("-p tests.utils.forget_plugin", *options)
    return [run(pytester, "-p no:cacheprovider", *words) for words in (options, forgetting)]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_terminal_shows_the_same(pytester: pytest.Pytester, options: str) -> None:
    plain, forgetting = both(pytester, options)
    assert forgetting == plain


@pytest.mark.parametrize(
    "options", ["", "-v -rA --durations=4", "--durations=0 --maxfail=1", "--dist=each"]
)
def test_a_controller_shows_the_same(pytester: pytest.Pytester, options: str) -> None:
    pytest.importorskip("xdist")
    # One worker: with more the order would not be the same.
    plain, forgetting = both(pytester, "-n1", options)
    assert forgetting == plain


def test_two_workers_count_the_same(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    (plain_status, plain), (status, forgetting) = both(pytester, "-n2")
    assert status == plain_status
    assert forgetting[-1] == plain[-1]
    progress = [line.rpartition("[")[2] for line in forgetting if line.endswith("%]")]
    assert progress[-1] == "100%]"


def test_a_worker_that_dies_is_told(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist")
    pytester.makepyfile(test_it=SUITE + "\ndef test_dies(): import os; os._exit(1)\n")
    (plain_status, plain), (status, forgetting) = both(pytester, "-n1")
    assert status == plain_status
    assert forgetting[-1] == plain[-1]
    assert any("crashed while running" in line for line in forgetting)


@pytest.mark.parametrize("workers", ["", "-n1"])
def test_last_failed_are_remembered(pytester: pytest.Pytester, workers: str) -> None:
    if workers:
        pytest.importorskip("xdist")
    words = ("-p tests.utils.forget_plugin", workers)
    _, first = run(pytester, *words)
    status, again = run(pytester, *words, "--lf")
    assert status == 1

    def bad(lines: list[str]) -> list[str]:
        return [line for line in lines if line.startswith(("FAILED", "ERROR", "SUBFAILED"))]

    assert bad(again) == bad(first) != []
    assert "passed" not in again[-1].replace("xpassed", "").replace("1 passed", "")


@pytest.mark.skipif(not HAS_SUBTESTS, reason="subtests came with pytest 9")
def test_failed_subtests_alone_are_counted(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
from _pytest.subtests import failed_subtests_key

def pytest_terminal_summary(config):
    print("counts", list(config.stash[failed_subtests_key].values()))
"""
    )
    _, lines = run(pytester, "-p tests.utils.forget_plugin")
    assert "counts [1]" in lines


def test_a_case_that_runs_again(pytester: pytest.Pytester) -> None:
    """As plugins that repeat a failed case do it."""
    pytester.makeconftest(
        TIMES
        + """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for _ in range(2):
        runtestprotocol(item, nextitem=nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""
    )
    plain, forgetting = both(pytester, "-rA")
    assert forgetting == plain
