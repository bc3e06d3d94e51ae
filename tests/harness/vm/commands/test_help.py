# SPDX-License-Identifier: GPL-2.0-only
"""The pages of help say what a newcomer needs to know first."""

from __future__ import annotations

import re
import shlex

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


@pytest.mark.parametrize(
    "line",
    [
        "git bisect run python3 -m vm run --build",
        "git rebase -x 'python3 -m vm run --build' BASE",
        "b4 shazam MESSAGE-ID && python3 -m vm run --build",
    ],
)
def test_there_is_a_line_for_a_series_and_for_a_bisection(
    capsys: pytest.CaptureFixture[str], line: str
) -> None:
    assert f"\n    {line}\n" in page(capsys, "run")
    words = shlex.split(line.replace("python3 -m vm", "vm"))
    assert "run --build" in " ".join(words)


@pytest.mark.parametrize("verb", ["run", "bench", "shell", "check", "kernels", "faults"])
def test_each_verb_is_described_with_examples(
    capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    above, _, _ = page(capsys, verb).partition("options:\n")
    _, description, examples, *_ = above.split("\n\n")
    assert description[0].isupper()
    assert len(re.findall(rf"^  .*python3 -m vm {verb}\b", examples, re.M)) >= 2


@pytest.mark.parametrize("verb", ["", "run", "bench", "shell", "check", "kernels", "faults"])
def test_a_page_fits_a_terminal_of_a_hundred_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert max(map(len, page(capsys, *verb.split()).splitlines())) <= 100


@pytest.mark.parametrize(
    ("verb", "memory"),
    [("bench", "(default: 1024)"), ("shell", "(default: 1024; 512 for User-Mode Linux)")],
)
def test_a_page_explains_no_option_by_one_that_the_verb_lacks(
    capsys: pytest.CaptureFixture[str], verb: str, memory: str
) -> None:
    assert "--system" not in page(capsys, verb)
    assert f"512M, 1G {memory}" in " ".join(page(capsys, verb).split())
