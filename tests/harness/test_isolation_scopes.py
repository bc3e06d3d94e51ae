# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of a wider scope live in the pytest process, once; those of a case in its child."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.conftest import RunCases


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


def test_each_scope_is_made_once_and_torn_down_in_its_place(
    run_cases: RunCases, note: Path
) -> None:
    run = run_cases(
        noting(
            note,
            """
session = fixture("session"); module = fixture("module")
per_class = fixture("class"); function = fixture("function")
class TestOne:
    def test_a(self, session_fixture, module_fixture, class_fixture, function_fixture): note("a")
    def test_b(self, session_fixture, class_fixture): note("b")
def test_c(session_fixture, module_fixture): note("c")
""",
        )
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "session up in the parent",
        "module up in the parent",
        "class up in the parent",
        "function up in a child",
        "a in a child",
        "function down in a child",
        "b in a child",
        "class down in the parent",
        "c in a child",
        "module down in the parent",
        "session down in the parent",
    ]


def test_a_parametrised_module_fixture_is_made_per_parameter(
    run_cases: RunCases, note: Path
) -> None:
    run = run_cases(
        noting(
            note,
            """
@pytest.fixture(scope="module", params=[1, 2])
def number(request):
    note(f"up {request.param}"); yield request.param; note(f"down {request.param}")
def test_a(number): assert number in (1, 2)
def test_b(number): assert number in (1, 2)
""",
        )
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        f"{what} {number} in the parent" for number in (1, 2) for what in ("up", "down")
    ]


def test_a_fixture_asked_for_while_running_ends_with_the_child(
    run_cases: RunCases, note: Path
) -> None:
    run = run_cases(
        noting(
            note,
            """
session = fixture("session")
def test_a(request): request.getfixturevalue("session_fixture"); note("a")
def test_b(session_fixture): note("b")
""",
        )
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "session up in a child",
        "a in a child",
        "session down in a child",
        "session up in the parent",
        "b in a child",
        "session down in the parent",
    ]


def test_old_style_set_up_works(run_cases: RunCases, note: Path) -> None:
    run = run_cases(
        noting(
            note,
            """
def setup_module(): note("module up")
def teardown_module(): note("module down")
class TestOne:
    @classmethod
    def setup_class(cls): note("class up"); cls.value = 1
    def setup_method(self): note("method up"); self.own = 2
    def teardown_method(self): note("method down")
    def test(self): assert (self.value, self.own) == (1, 2)
""",
        )
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "module up in the parent",
        "class up in the parent",
        "method up in a child",
        "method down in a child",
        "module down in the parent",
    ]


def test_errors_of_wider_scopes_are_those_of_the_item(run_cases: RunCases) -> None:
    run = run_cases("""
@pytest.fixture(scope="module")
def up(): raise OSError(5, "no set-up")
@pytest.fixture(scope="class")
def down():
    yield
    raise OSError(5, "no tear-down")
@pytest.fixture
def own():
    yield
    raise ValueError("nor mine")
def test_a(up): pass
def test_b(up): pass
class TestOne:
    def test_c(self, down): print("said")
class TestTwo:
    def test_d(self, down, own): pass
""")
    assert [(case, when, outcome) for case, when, outcome in run.outcomes() if when != "call"] == [
        ("test_a", "setup", "failed"),
        ("test_a", "teardown", "passed"),
        ("test_b", "setup", "failed"),
        ("test_b", "teardown", "passed"),
        ("TestOne::test_c", "setup", "passed"),
        ("TestOne::test_c", "teardown", "failed"),
        ("TestTwo::test_d", "setup", "passed"),
        ("TestTwo::test_d", "teardown", "failed"),
    ]
    assert "no set-up" in run.report("test_b", "setup").longreprtext
    one, two = run.report("test_c", "teardown"), run.report("test_d", "teardown")
    assert "no tear-down" in one.longreprtext
    assert ("Captured stdout call", "said\n") in one.sections
    assert "nor mine" in two.longreprtext
    assert "no tear-down" in dict(two.sections)["Error in the tear-down of wider scopes"]


def test_isolated_and_other_items_share_fixtures(run_cases: RunCases, note: Path) -> None:
    run = run_cases(
        noting(
            note,
            """
session = fixture("session")
def test_plain(session_fixture): note("plain")
@pytest.mark.isolated
def test_isolated(session_fixture): note("isolated")
def test_plain_again(session_fixture): note("plain")
""",
        ),
        header="import os, pytest\n",
    )
    assert run.ret == 0, run.text
    assert note.read_text().splitlines() == [
        "session up in the parent",
        "plain in the parent",
        "isolated in a child",
        "plain in the parent",
        "session down in the parent",
    ]


def test_set_up_alone_calls_nothing(run_cases: RunCases, note: Path) -> None:
    run = run_cases(noting(note, "def test(): note('called')"), "--setup-only")
    assert run.ret == 0
    assert not note.exists()


def test_scratch_is_for_isolated_cases(run_cases: RunCases) -> None:
    run = run_cases("def test(scratch): pass", header="")
    assert run.report("test", "setup").failed
    assert "asks for `scratch` and is not isolated" in run.text
