# SPDX-License-Identifier: GPL-2.0-only
"""Cases are forked by a zygote, and see the pytest process as it is when they start."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from tests.harness.helpers.machine import children
from tests.harness.helpers.running import NEXT, a_running_suite, assert_complete
from tests.harness.helpers.suite import RunCases
from tests.utils.isolation import sandbox
from tests.utils.isolation.zygote import Zygote


@pytest.fixture(autouse=True)
def zygotes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The PIDs of the zygotes that were made."""
    pids: list[int] = []
    make = Zygote.__init__

    def noting(self: Zygote, *arguments: object) -> None:
        make(self, *arguments)  # type: ignore[arg-type]
        pids.append(self._pid)

    monkeypatch.setattr(Zygote, "__init__", noting)
    return pids


def test_one_zygote_serves_all_cases(run_cases: RunCases, zygotes: list[int]) -> None:
    had = children()
    run = run_cases("@pytest.mark.parametrize('n', range(5))\ndef test(n): pass")
    assert run.ret == 0, run.text
    assert len(zygotes) == 1
    assert children() == had


def test_each_kind_of_isolation_has_a_zygote(run_cases: RunCases, zygotes: list[int]) -> None:
    if sandbox.facts().missing:
        pytest.skip(sandbox.facts().reason)
    run = run_cases("""
@pytest.mark.parametrize("n", range(2))
class Test:
    def test_plain(self, n): assert not os.path.ismount("/usr") or os.stat("/").st_dev
    @pytest.mark.isolated(pid_namespace=False)
    def test_machines_pids(self, n): assert os.getpid() > 2
    @pytest.mark.isolated(machine_root=True)
    def test_machines_root(self, n): pass
""")
    assert run.ret == 0, run.text
    assert len(zygotes) == 3


def test_a_case_that_is_not_clean_costs_its_zygote(run_cases: RunCases, zygotes: list[int]) -> None:
    run_cases("def test_one(): os._exit(1)\ndef test_two(): pass\ndef test_three(): pass")
    assert len(zygotes) == 2


def test_other_items_and_imports_renew_the_zygote(run_cases: RunCases, zygotes: list[int]) -> None:
    run = run_cases(
        """
state = []
@pytest.mark.isolated
def test_one(): assert not state
def test_plain():
    state.append(1); sys.modules["made_up"] = sys
@pytest.mark.isolated
def test_two(): assert state and "made_up" in sys.modules
def test_plain_again(): del sys.modules["made_up"]
""",
        header="import sys, pytest\n",
    )
    assert run.ret == 0, run.text
    assert len(zygotes) == 2


def test_filters_of_warnings_are_those_of_the_case(run_cases: RunCases, zygotes: list[int]) -> None:
    run = run_cases("""
def test_one(): warnings.warn("fatal")
@pytest.mark.filterwarnings("error:fatal")
def test_two():
    with pytest.raises(UserWarning): warnings.warn("fatal")
def test_three(): warnings.warn("fatal")
""")
    assert run.ret == 0, run.text
    assert len(zygotes) == 3


@pytest.mark.parametrize("when", ["between", "during"])
def test_a_killed_zygote_costs_one_case_at_most(
    run_cases: RunCases, pytester: pytest.Pytester, zygotes: list[int], when: str
) -> None:
    phase = "teardown" if when == "between" else "setup"
    pytester.makeconftest(f"""
import os, signal
from tests.utils.isolation.plugin import _SESSION
configs = []
def pytest_configure(config): configs.append(config)
def pytest_runtest_logreport(report):
    if report.nodeid.endswith("::test_first") and report.when == {phase!r}:
        (zygote,) = configs[0].stash[_SESSION].zygotes._zygotes.values()
        pid = zygote._pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
""")
    had = children()
    run = run_cases("def test_zero(): pass\ndef test_first(): time.sleep(0.2)" + NEXT)
    assert len(zygotes) == 2
    # Even a case under way has its reports to tell.
    assert run.ret == 0, run.text
    assert_complete(run)
    assert children() == had


def test_a_zygote_that_is_gone_when_asked_is_told(
    run_cases: RunCases, zygotes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Zygote.fork

    def fork(self: Zygote, item: pytest.Item, events: int) -> int | None:
        if len(zygotes) == 1:
            os.kill(self._pid, signal.SIGKILL)
        return request(self, item, events)

    monkeypatch.setattr(Zygote, "fork", fork)
    run = run_cases("def test_lost(): pass" + NEXT)
    assert "The process that forks the cases has ended" in (
        run.report("test_lost", "setup").longreprtext
    )
    assert_complete(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_zygote_outlives_pytest(tmp_path: Path, number: signal.Signals) -> None:
    with a_running_suite(tmp_path / "test_hangs.py") as (process, pipe):
        task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pidfds = [os.pidfd_open(int(pid)) for pid in task.read_text().split()]
        assert len(pidfds) == 1
        process.send_signal(number)
        assert select.select([pipe], [], [], 30)[0]
        process.wait()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
