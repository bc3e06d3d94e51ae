# SPDX-License-Identifier: GPL-2.0-only
"""What pytest is told in a guest."""

from __future__ import annotations

from typing import Any

import pytest

from vm.run import plan
from vm.run.pytest_words import LONG, SHORT


def without(*given: str) -> set[str]:
    """The plugins that are left out when pytest is given these words in a guest."""
    prefix = "-pno:"
    arguments = plan.pytest_arguments(given)
    return {word.removeprefix(prefix) for word in arguments if word.startswith(prefix)}


@pytest.fixture(autouse=True)
def _no_options_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def test_kernel_cases_run_where_nothing_is_named() -> None:
    assert without() == without("-k", "covered", "-x") == {"cacheprovider", "xdist"}
    assert plan.pytest_arguments(("-x",))[-2:] == ["-x", "tests/open_tree_ns"]
    named = plan.pytest_arguments(("tests/harness/vm/run/test_plan.py::test_x",))
    assert "tests/open_tree_ns" not in named


@pytest.mark.parametrize(
    "words",
    [
        ("-k", "bench"),
        ("-vk", "bench"),
        ("-k", "tests"),
        ("-k=bench",),
        ("-m", "docs"),
        ("--ignore", "tests/open_tree_ns/test_locks.py"),
        ("--deselect", "tests/open_tree_ns/test_locks.py::test_x"),
        ("--maxfail", "vm"),
        ("--ignore=vm",),
    ],
)
def test_the_value_of_an_option_names_no_cases(words: tuple[str, ...]) -> None:
    assert plan.pytest_arguments(words)[-1] == "tests/open_tree_ns"


@pytest.mark.parametrize("words", [("tests/bench",), ("-x", "tests/bench"), ("--", "tests")])
def test_cases_that_are_named_run_and_no_others(words: tuple[str, ...]) -> None:
    assert "tests/open_tree_ns" not in plan.pytest_arguments(words)


def test_workers_need_xdist() -> None:
    for words in (("-n", "2"), ("-n2",), ("-vn", "2"), ("--dist=load",)):
        assert without(*words) == {"cacheprovider"}
    assert "xdist" in without("-k", "-n")


@pytest.mark.parametrize(
    ("words", "most"),
    [
        (("-x",), 1),
        (("-vx",), 1),
        (("-vxk", "covered"), 1),
        (("--maxfail", "2"), 2),
        (("--maxfail=3",), 3),
        (("-x", "--maxfail=3"), 3),
        (("-k", "-x"), 0),
        (("-kx",), 0),
        (("--exitfirst",), 1),
        (("--maxfail=0",), 0),
        ((), 0),
    ],
)
def test_it_is_known_after_how_many_failures_pytest_is_to_stop(
    words: tuple[str, ...], most: int
) -> None:
    assert plan.Options(pytest=words).most_failures == most


def test_pytest_takes_words_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "-v -x")
    assert plan.Options().most_failures == 1
    assert plan.Options(pytest=("--maxfail=2",)).most_failures == 2


def test_each_option_of_pytests_that_takes_a_word_is_known(
    request: pytest.FixtureRequest,
) -> None:
    parser: Any = request.config
    parser = parser._parser
    actions = getattr(parser, "optparser", None) or parser._getparser()
    names = {
        name
        for action in actions._actions
        if action.nargs is None
        for name in action.option_strings
        # These plugins are not in guests, or serve pytest's own tests.
        if not name.startswith(("--hypothesis", "--runpytest"))
    }
    assert len(names) > 50
    known = {f"-{letter}" for letter in SHORT} | {f"--{name}" for name in LONG}
    assert names <= known
