# SPDX-License-Identifier: GPL-2.0-only
"""What this project uses of pytest's private parts does what it is used for, with this pytest."""

from __future__ import annotations

import ast
import io
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.runner import SetupState
from _pytest.terminal import TerminalReporter

from tests.harness.helpers.suite import ROOT
from tests.utils import pytest_internals as internals

SOURCE = """
import pytest

@pytest.fixture(scope="module")
def wide(): yield; print("wide is down")

@pytest.fixture
def own(wide): pass

def setup_module(): pass

class Test:
    @pytest.mark.xfail(reason="known")
    def test_fails(self, own, tmp_path_factory): assert 0
    @pytest.mark.skip(reason="never")
    def test_skipped(self): pass
"""


@pytest.fixture
def items(pytester: pytest.Pytester) -> list[pytest.Item]:
    """The cases of SOURCE, collected and not run."""
    found = pytester.getitems(SOURCE)
    session: Any = found[0].session
    session._setupstate = SetupState()
    return found


def test_enter_collectors(items: list[pytest.Item]) -> None:
    state: Any = items[0].session
    internals.enter_collectors(items[0])
    assert list(state._setupstate.stack) == items[0].listchain()[:-1]
    # What follows takes them for set up.
    state._setupstate.setup(items[0])
    internals.tear_down(items[0].session, None)


def test_tear_down(items: list[pytest.Item]) -> None:
    ended: list[str] = []
    state: Any = items[0].session
    state._setupstate.setup(items[0])
    for node in items[0].listchain():
        node.addfinalizer(partial(ended.append, node.name))
    internals.tear_down(items[0].session, items[1])
    assert ended == ["test_fails"]
    internals.tear_down(items[0].session, None)
    assert ended[:2] == ["test_fails", "Test"]
    assert not state._setupstate.stack


def test_renew_request(items: list[pytest.Item]) -> None:
    function: Any = items[0]
    function._request, function.funcargs = False, None
    internals.renew_request(items[0])
    assert function._request
    assert function.funcargs == {}


def test_fixtures_of(items: list[pytest.Item]) -> None:
    found = {name: (scope, own) for name, scope, own in internals.fixtures_of(items[0])}
    assert found["wide"] == ("module", False)
    assert found["own"] == ("function", False)
    assert found["tmp_path_factory"] == ("session", True)
    # setup_module() is a fixture in disguise.
    assert ("module", False) in [v for name, v in found.items() if "setup_module" in name]


def test_evaluate_marks_and_expect_no_failure(items: list[pytest.Item]) -> None:
    with pytest.raises(pytest.skip.Exception, match="never"):
        internals.evaluate_marks(items[1])
    internals.evaluate_marks(items[0])

    def report() -> pytest.TestReport:
        call = internals.CallInfo.from_call(lambda: pytest.fail("no"), when="call")
        made: pytest.TestReport = items[0].ihook.pytest_runtest_makereport(item=items[0], call=call)
        return made

    assert report().wasxfail == "known"
    internals.expect_no_failure(items[0])
    assert report().failed


def test_locate_at_item_and_locate_failure(items: list[pytest.Item]) -> None:
    def skip() -> None:
        try:
            pytest.skip("here")
        except pytest.skip.Exception as skipped:
            internals.locate_at_item(skipped)
            raise

    def report(function: Callable[[], object]) -> pytest.TestReport:
        call = internals.CallInfo.from_call(function, when="setup")
        made: pytest.TestReport = items[1].ihook.pytest_runtest_makereport(item=items[1], call=call)
        return made

    path, line, _ = items[1].reportinfo()
    skipped = report(skip).longrepr
    assert isinstance(skipped, tuple)
    assert skipped[:2] == (os.fspath(path), (line or 0) + 1)
    failed = report(lambda: pytest.fail("killed", pytrace=False))
    internals.locate_failure(failed, items[1], "killed")
    crash: Any = failed.longrepr
    if hasattr(crash, "reprcrash"):
        assert (crash.reprcrash.path, crash.reprcrash.lineno) == skipped[:2]
    assert "killed" in str(failed.longrepr)


def test_count_failed_subtest(pytestconfig: pytest.Config) -> None:
    subtests = pytest.importorskip("_pytest.subtests", reason="subtests came with pytest 9")
    report: Any = SimpleNamespace(nodeid="a::b", id="a::b", failed=True)
    counts: Any = pytestconfig.stash[subtests.failed_subtests_key]
    before = counts.get("a::b", 0)
    internals.count_failed_subtest(pytestconfig, report)
    assert counts.pop("a::b") == before + 1


def test_temporary_base(pytester: pytest.Pytester) -> None:
    config = pytester.parseconfigure()
    assert internals.temporary_base(config) is None
    made = internals.temporary_base(config, make=True)
    assert isinstance(made, Path)
    assert made.is_dir()
    assert internals.temporary_base(config) == made


def test_captured_output(pytester: pytest.Pytester) -> None:
    done = pytester.runpytest_subprocess(
        pytester.makepyfile("""
import os
from tests.utils import pytest_internals
def test(request):
    os.write(1, b"x" * 100)
    manager = request.config.pluginmanager.get_plugin("capturemanager")
    found = pytest_internals.captured_output(request.config, 10)
    assert found == [("stdout", "x" * 10)]
    assert pytest_internals.captured_output(request.config, 10) == []
"""),
        "--capture=fd",
    )
    done.assert_outcomes(passed=1)
    assert internals.captured_output(pytester.parseconfig("-p", "no:capture"), 10) == []


def test_highlight_loads_what_a_failure_takes(pytester: pytest.Pytester) -> None:
    pytest.importorskip("pygments")
    done = pytester.runpytest_subprocess(
        pytester.makepyfile("""
import sys
from tests.utils import pytest_internals
def test(request):
    pytest_internals.highlight(request.config, "-a\\n+b", "diff")
    assert "pygments.lexers.diff" in sys.modules
"""),
        "--color=yes",
    )
    done.assert_outcomes(passed=1)


def test_silence(pytester: pytest.Pytester) -> None:
    reporter = TerminalReporter(pytester.parseconfigure(), file=(said := io.StringIO()))
    reporter.write("heard")
    assert internals.silence(reporter) is said
    reporter.write("not heard")
    assert said.getvalue() == "heard"


def test_nobody_else_uses_them() -> None:
    """Private names of pytest's stand in this one module."""
    folders = (
        "conftest.py",
        "bench",
        "contrib",
        "tests/bench",
        "tests/open_tree_ns",
        "tests/utils",
    )
    files = [
        file
        for folder in folders
        for file in ([ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py"))
        if file != Path(internals.__file__)
    ]
    assert len(files) > 50
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names = [getattr(node, "module", None), *(alias.name for alias in node.names)]
                assert not any(name and name.startswith("_pytest") for name in names), file
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("_setupstate", "_fixtureinfo", "_tmp_path_factory"), file
    assert "_pytest" in sys.modules
