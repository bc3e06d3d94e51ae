# SPDX-License-Identifier: GPL-2.0-only
"""Cases are forked by a nursery, and see the pytest process as it is when they start."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

import pytest

from tests.harness.conftest import RunCases
from tests.harness.test_isolation_deaths import NEXT, a_running_suite, assert_complete
from tests.harness.test_isolation_host import children
from tests.utils import nursery, sandbox


@pytest.fixture(autouse=True)
def nurseries(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The PIDs of the nurseries that were made; skip where there are none."""
    if not sandbox.facts().pid_return:
        pytest.skip("cases are not forked by a nursery here")
    pids: list[int] = []
    make = nursery.Nursery.__init__

    def noting(self: nursery.Nursery, *arguments: object) -> None:
        make(self, *arguments)  # type: ignore[arg-type]
        pids.append(self._pid)

    monkeypatch.setattr(nursery.Nursery, "__init__", noting)
    return pids


def test_one_nursery_serves_cases_that_share_their_surroundings(
    run_cases: RunCases, nurseries: list[int]
) -> None:
    had = children()
    run = run_cases("@pytest.mark.parametrize('n', range(5))\ndef test(n): pass")
    assert run.ret == 0, run.text
    assert len(nurseries) == 1
    assert children() == had


def test_collectors_that_run_no_code_keep_the_nursery(
    run_cases: RunCases, nurseries: list[int]
) -> None:
    run = run_cases("""
class TestOne:
    def test_in_class(self, request): assert request.node.parent.name == "TestOne"
class TestTwo:
    def test_in_class(self, request): request.addfinalizer(lambda: None)
def test_outside(): pass
""")
    assert run.ret == 0, run.text
    assert len(nurseries) == 1


def test_xunit_set_up_of_a_class_renews_the_nursery(
    run_cases: RunCases, nurseries: list[int]
) -> None:
    run = run_cases("""
state = []
def test_before(): assert state == []
class TestOne:
    @classmethod
    def setup_class(cls): state.append("class")
    @classmethod
    def teardown_class(cls): state.append("over")
    def test_in_class(self): assert state == ["class"]
class TestTwo:
    def test_in_class(self): assert state == ["class", "over"]
""")
    assert run.ret == 0, run.text


def test_a_wider_fixture_renews_the_nursery(run_cases: RunCases, nurseries: list[int]) -> None:
    run = run_cases("""
state = []
@pytest.fixture(scope="session")
def late(): state.append("late"); yield state
@pytest.fixture(scope="module", params=[1, 2])
def number(request): state.append(request.param); yield request.param; state.remove(request.param)
class TestOne:
    @pytest.fixture(scope="class", autouse=True)
    def own(self): state.append("class"); yield; state.remove("class")
    def test_in_class(self): assert state == ["class"]
    def test_again(self): assert state == ["class"]
def test_before(): assert state == []
def test_late(late): assert late is state and state == ["late"]
def test_after(): assert state == ["late"]
def test_number(number): assert state == ["late", number]
""")
    assert run.ret == 0, run.text
    # One for the class, one before and one after `late`, and one per number.
    assert len(nurseries) == 5


def test_other_items_and_imports_renew_the_nursery(
    run_cases: RunCases, nurseries: list[int]
) -> None:
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
    assert len(nurseries) == 2


def test_filters_of_warnings_are_those_of_the_case(
    run_cases: RunCases, nurseries: list[int]
) -> None:
    run = run_cases("""
def test_one(): warnings.warn("fatal")
@pytest.mark.filterwarnings("error:fatal")
def test_two():
    with pytest.raises(UserWarning): warnings.warn("fatal")
def test_three(): warnings.warn("fatal")
""")
    assert run.ret == 0, run.text
    assert len(nurseries) == 3


def test_a_fixture_of_another_case_is_not_torn_down(run_cases: RunCases, tmp_path: Path) -> None:
    note = tmp_path / "note"
    run = run_cases(f"""
@pytest.fixture(scope="session")
def shared():
    yield
    open({str(note)!r}, "a").write("down\\n")
@pytest.fixture
def uses(shared): pass
def test_one(uses): pass
def test_two(uses): pass
def test_three(request): request.getfixturevalue("shared")
""")
    assert run.ret == 0, run.text
    assert note.read_text() == "down\n"


@pytest.mark.parametrize("when", ["between", "during"])
def test_a_killed_nursery_costs_one_case_at_most(
    run_cases: RunCases, pytester: pytest.Pytester, nurseries: list[int], when: str
) -> None:
    phase = "teardown" if when == "between" else "setup"
    pytester.makeconftest(f"""
import os, signal
from tests.utils.protocol import SESSION
configs = []
def pytest_configure(config): configs.append(config)
def pytest_runtest_logreport(report):
    if report.nodeid.endswith("::test_first") and report.when == {phase!r}:
        pid = configs[0].stash[SESSION].nurseries._nursery._pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
""")
    had = children()
    run = run_cases("def test_zero(): pass\ndef test_first(): time.sleep(0.2)" + NEXT)
    assert len(nurseries) == 2
    # Even a case under way has its reports to tell.
    assert run.ret == 0, run.text
    assert_complete(run)
    assert children() == had


def test_a_nursery_that_is_gone_when_asked_is_told(
    run_cases: RunCases, nurseries: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = nursery.Nursery.fork

    def fork(self: nursery.Nursery, number: int, events: int) -> int | None:
        if len(nurseries) == 1:
            os.kill(self._pid, signal.SIGKILL)
        return request(self, number, events)

    monkeypatch.setattr(nursery.Nursery, "fork", fork)
    run = run_cases("def test_lost(): pass" + NEXT)
    assert "The case ended in setup and nobody saw how" in (
        run.report("test_lost", "setup").longreprtext
    )
    assert_complete(run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_nursery_outlives_pytest(tmp_path: Path, number: signal.Signals) -> None:
    with a_running_suite(tmp_path / "test_hangs.py") as (process, pipe):
        task = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        pidfds = [os.pidfd_open(int(pid)) for pid in task.read_text().split()]
        # The namespace's PID 1 and the nursery.
        assert len(pidfds) == 2
        process.send_signal(number)
        assert select.select([pipe], [], [], 30)[0]
        process.wait()
        for pidfd in pidfds:
            assert select.select([pidfd], [], [], 10)[0]
            os.close(pidfd)
