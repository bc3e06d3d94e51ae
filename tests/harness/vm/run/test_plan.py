# SPDX-License-Identifier: GPL-2.0-only
"""What pytest is told in a guest."""

from __future__ import annotations

import pytest

from vm.run import plan


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


def test_workers_need_xdist() -> None:
    assert without("-n", "2") == {"cacheprovider"}
