# SPDX-License-Identifier: GPL-2.0-only
"""No check can be switched off: Python leaves out assert statements under -O, and the cases fail
all the same."""

from __future__ import annotations

import ast

import pytest

from tests.harness.helpers.suite import CASE_PLUGINS, ROOT

PLUGINS = CASE_PLUGINS
UTILS = ROOT / "tests/utils"
#: Each fails on its own: by what it says, by what it stands on, by its fixture.
CASES = """
import pytest
from tests.harness.helpers.mount_tables import made
from tests.utils.model import prediction
from tests.utils.tasks import fd_passing
from tests.utils.uapi import fanotify

def test_says(): assert 0, "said by the case"

def test_count(monkeypatch):
    class Info:
        nr_mounts = 2
    monkeypatch.setattr(prediction, "mount_table", lambda ns_fd: [made(101, 100, "/")])
    monkeypatch.setattr(prediction, "mnt_get_info", lambda ns_fd: Info)
    monkeypatch.setattr(prediction, "mnt_id_of", lambda path: 1)
    prediction.namespace_tree(5)

def test_two_on_the_base():
    prediction.tree_of([], prediction._lowest([made(1, 9, "/"), made(2, 9, "/")]))

def test_out_of_sight():
    prediction.predict([made(1, 9, None)], 1, "/", recursive=True, foreign=False)

def test_event(monkeypatch):
    event = fanotify._METADATA.pack(40, 0, 0, 24, 0, 0, 0) + fanotify._INFO.pack(1, 0, 16, 101)
    ready = iter([[[5]], [[]]])
    monkeypatch.setattr(fanotify.select, "select", lambda *_: next(ready))
    monkeypatch.setattr(fanotify.os, "read", lambda *_: event)
    fanotify.mount_events(5)

def test_descriptors(monkeypatch):
    monkeypatch.setattr(fd_passing, "_MOST", 1)
    fd_passing.fds_from_child(lambda: [0, 1, 2, 3])

def test_fixture(broken): pass
"""
FIXTURE = """
import pytest
@pytest.fixture
def broken(): assert 0, "said by the fixture"
"""
FAILURES = (
    "said by the case",
    "the namespace counts 2 mounts (NS_MNT_GET_INFO), but has 1 in its tree (listmount): ['/']",
    "expected one mount on the namespace's base, found [",
    "is out of the caller's sight, and no path leads to it",
    "event with unknown information 1",
    "not all descriptors arrived",
    "said by the fixture",
)


def test_nothing_the_cases_stand_on_has_an_assert_statement() -> None:
    """pytest rewrites those of test modules and plugins, and no others."""
    found = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted(UTILS.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    }
    assert not found


@pytest.mark.parametrize("level", ["", "1", "2"])
def test_the_same_cases_fail(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", level)
    pytester.makeconftest(FIXTURE)
    pytester.makepyfile(CASES)
    done = pytester.runpytest_subprocess(*PLUGINS)
    assert done.parseoutcomes() | {"warnings": 0} == {"failed": 6, "errors": 1, "warnings": 0}
    text = done.stdout.str()
    assert [message for message in FAILURES if message not in text] == []


@pytest.mark.parametrize("level", ["", "1"])
def test_a_run_in_which_every_case_would_pass_does_not_begin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", level)
    pytester.makepyfile("def test(): assert 0")
    done = pytester.runpytest_subprocess(*PLUGINS, "--assert=plain")
    assert done.ret == (pytest.ExitCode.USAGE_ERROR if level else pytest.ExitCode.TESTS_FAILED)
    assert ("all cases would pass\nhint: " in done.stderr.str()) == bool(level)
