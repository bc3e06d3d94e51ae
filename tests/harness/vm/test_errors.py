# SPDX-License-Identifier: GPL-2.0-only
"""Errors have one form: what is wrong, on what; and on a line of its own what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.helpers.suite import ROOT
from vm.errors import Problem

#: Names of the exceptions that a user sees as a line.
_SEEN = ("Problem", "_Problem", "NoPlot", "WorkersFailed")
#: What to do, where it follows what is wrong on the same line.
_ADVICE = re.compile(
    r"[:;,(] ?(?:or )?(?:give|set|run|remove|install|fetch|use|start|write|try|build|unpack|name)\b"
)


def text_of(node: ast.expr) -> str:
    """The text of a literal, "{}" for what is put into it."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) for value in values)
        case ast.BinOp(left=left, right=right):
            return text_of(left) + text_of(right)
    return "{}"


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """The messages that are raised in *path*, each with its line."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in _SEEN:
                yield node.lineno, text_of(first)


def test_what_to_do_stands_on_a_line_of_its_own() -> None:
    found = [
        (f"{path.relative_to(ROOT)}:{line}", text)
        for folder in ("vm", "bench")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in messages(path)
    ]
    assert len(found) > 50
    wrong = []
    for place, text in found:
        what, hint, rest = text.partition("\nhint: ")
        if _ADVICE.search(what) or "hint: " in rest or (hint and not rest):
            wrong.append(f"{place}: {text!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("text", ["no kernel", "no kernel\nhint: give one"])
def test_what_is_wrong_can_be_told_without_what_to_do(text: str) -> None:
    assert Problem(text).what == "no kernel"
