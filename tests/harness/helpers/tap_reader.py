# SPDX-License-Identifier: GPL-2.0-only
"""TAP as tap.py reads it: a reader that is not ours."""

from __future__ import annotations

import re
from typing import Any

import pytest

try:
    from tap.parser import Parser
except ImportError:
    Parser = None


def parsed(text: str) -> list[Any]:
    """The lines of a document as tap.py reads them."""
    if Parser is None:
        pytest.skip("the TAP reader tap.py is not installed (pip install tap.py)")
    return list(Parser().parse_text(text))


def results(text: str) -> dict[str, tuple[bool, str]]:
    """Case -> (good, directive) of a document, read by tap.py and checked as a whole."""
    lines = parsed(text)
    assert [line.category for line in lines[:2]] == ["version", "plan"], text
    assert not [line for line in lines if line.category == "unknown"], text
    found = [line for line in lines if line.category == "test"]
    assert [line.number for line in found] == list(range(1, len(found) + 1))
    assert re.fullmatch(r"# Totals:( \w+:\d+){6}", text.splitlines()[-1])
    named = {
        line.description.strip(): (
            line.ok,
            re.sub(r"^time=\d+ms$", "", line.directive.text),
        )
        for line in found
    }
    assert len(named) == len(found)
    return named
