# SPDX-License-Identifier: GPL-2.0-only
"""What pytest is told in a guest."""

from __future__ import annotations

import pytest

from vm import plan

#: Of no use to the kernel cases.
SPARED = {"doctest", "legacypath", "logging", "pastebin", "unittest"}


def without(*given: str) -> set[str]:
    """The plugins that are left out when pytest is given these words in a guest."""
    prefix = "-pno:"
    arguments = plan.pytest_arguments(given)
    return {word.removeprefix(prefix) for word in arguments if word.startswith(prefix)}


@pytest.fixture(autouse=True)
def _no_options_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)


def test_kernel_cases_run_without_plugins_they_have_no_use_for() -> None:
    assert without() == without("-k", "covered", "-x") == {"cacheprovider", "xdist", *SPARED}
    assert plan.pytest_arguments(("-x",))[-2:] == ["-x", "tests/open_tree_ns"]


@pytest.mark.parametrize(
    ("word", "plugin"),
    [
        ("--log-cli-level=INFO", "logging"),
        ("-olog_cli=true", "logging"),
        ("--doctest-modules", "doctest"),
        ("--pastebin=failed", "pastebin"),
    ],
)
def test_plugin_whose_option_is_given_stays(
    monkeypatch: pytest.MonkeyPatch, word: str, plugin: str
) -> None:
    assert without(word) == {"cacheprovider", "xdist", *SPARED} - {plugin}
    monkeypatch.setenv("PYTEST_ADDOPTS", word)
    assert without() == {"cacheprovider", "xdist", *SPARED} - {plugin}


def test_whatever_is_named_runs_with_all_plugins() -> None:
    assert without("tests/harness/test_vm_plan.py::test_x") == {"cacheprovider", "xdist"}


def test_workers_need_xdist() -> None:
    assert without("-n", "2") == {"cacheprovider", *SPARED}
