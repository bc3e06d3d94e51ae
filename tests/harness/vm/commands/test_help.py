# SPDX-License-Identifier: GPL-2.0-only
"""The pages of help say what a newcomer needs to know first."""

from __future__ import annotations

import pytest

from vm.commands.main import main


def page(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Return the help that *words* give."""
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_the_first_lines_name_what_is_tested_and_how(capsys: pytest.CaptureFixture[str]) -> None:
    usage, _, first, *_ = page(capsys).splitlines()
    assert usage == "usage: python3 -m vm [VERB] [options] [-- ARGS]"
    assert "open_tree(OPEN_TREE_NAMESPACE)" in first
    assert page(capsys).count("\n  python3 -m vm") >= 2


@pytest.mark.parametrize(
    ("verb", "behind"), [("run", "PYTEST-ARGS"), ("bench", "BENCH-ARGS"), ("check", "TOX-ARGS")]
)
def test_the_usage_has_what_stands_behind_the_dashes(
    capsys: pytest.CaptureFixture[str], verb: str, behind: str
) -> None:
    assert page(capsys, verb).splitlines()[0].endswith(f"[-- {behind}]")


@pytest.mark.parametrize("verb", ["run", "bench", "shell", "check", "kernels"])
def test_each_verb_is_described_with_examples(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    text = page(capsys, verb)
    assert text.count(f"python3 -m vm {verb}") >= 2
    assert max(map(len, text.splitlines())) <= 100
