# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of a case live in its child; wider ones are for other items, in the pytest process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.helpers.suite import RunCases


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """A file in which cases note what they do."""
    return tmp_path / "note"


def noting(note: Path, source: str) -> str:
    """*source* with a function ``note(text)``, which also tells parent from child."""
    return f"""
home = os.getpid()
def note(text):
    with open({str(note)!r}, "a") as file:
        file.write(text + (" in the parent" if os.getpid() == home else " in a child") + "\\n")
def fixture(scope, **options):
    def make():
        note(scope + " up"); yield; note(scope + " down")
    return pytest.fixture(scope=scope, name=scope + "_fixture", **options)(make)
{source}"""


@pytest.mark.parametrize("scope", ["session", "package", "module", "class"])
@pytest.mark.parametrize("how", ["used", "autouse", "indirect"])
def test_a_fixture_of_a_wider_scope_is_refused(run_cases: RunCases, scope: str, how: str) -> None:
    arguments = {"used": "wide", "autouse": "", "indirect": "own"}[how]
    run = run_cases(f"""
@pytest.fixture(scope={scope!r}, autouse={how == "autouse"})
def wide(): pass
@pytest.fixture
def own({"wide" if how == "indirect" else ""}): pass
def test({arguments}): pass
""")
    assert run.ret == pytest.ExitCode.USAGE_ERROR
    assert f"::test: an isolated case cannot use wide, a fixture of the scope {scope}" in run.text
    assert "hint: give the fixture the scope" in run.text
    assert not run.reports


@pytest.mark.parametrize(
    "source",
    [
        "def setup_module(): pass\ndef test(): pass",
        "class Test:\n  @classmethod\n  def setup_class(cls): pass\n  def test(self): pass",
    ],
)
def test_set_up_of_a_module_or_class_is_refused(run_cases: RunCases, source: str) -> None:
    assert run_cases(source).ret == pytest.ExitCode.USAGE_ERROR


def test_set_up_of_a_function_and_pytests_own_fixtures_work(
    run_cases: RunCases, note: Path
) -> None:
    run = run_cases(
        noting(
            note,
            """
function = fixture("function")
class TestOne:
    def setup_method(self): note("method up"); self.own = 2
    def teardown_method(self): note("method down")
    def test(self, function_fixture, tmp_path_factory, pytestconfig): assert self.own == 2
""",
        )
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "method up in a child",
        "function up in a child",
        "function down in a child",
        "method down in a child",
    ]


def test_fixtures_of_other_items_outlive_isolated_ones(run_cases: RunCases, note: Path) -> None:
    run = run_cases(
        noting(
            note,
            """
session = fixture("session"); module = fixture("module")
def test_plain(session_fixture, module_fixture): note("plain")
@pytest.mark.isolated
def test_isolated(): note("isolated")
def test_plain_again(session_fixture, module_fixture): note("plain")
@pytest.mark.isolated
def test_last(): note("last")
""",
        ),
        header="import os, pytest\n",
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "session up in the parent",
        "module up in the parent",
        "plain in the parent",
        "isolated in a child",
        "plain in the parent",
        "last in a child",
        "module down in the parent",
        "session down in the parent",
    ]


def test_an_error_in_their_tear_down_is_told(run_cases: RunCases) -> None:
    run = run_cases(
        """
@pytest.fixture(scope="module")
def down():
    yield
    raise OSError(5, "no tear-down")
def test_plain(down): pass
@pytest.mark.isolated
def test_last(): print("said")
""",
        header="import os, pytest\n",
    )
    report = run.report("test_last", "teardown")
    assert "no tear-down" in report.longreprtext
    assert ("Captured stdout call", "said\n") in report.sections


def test_set_up_alone_calls_nothing(run_cases: RunCases, note: Path) -> None:
    run = run_cases(noting(note, "def test(): note('called')"), "--setup-only")
    assert run.ret == 0
    assert not note.exists()


def test_scratch_is_for_isolated_cases(run_cases: RunCases) -> None:
    run = run_cases("def test(scratch): pass", header="")
    assert run.report("test", "setup").failed
    assert "asks for `scratch` and is not isolated" in run.text
