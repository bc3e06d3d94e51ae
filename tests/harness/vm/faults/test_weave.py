# SPDX-License-Identifier: GPL-2.0-only
"""Edits behind switches: what the woven source does is seen by compiling and running it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vm.faults import c
from vm.faults.copy import with_header
from vm.faults.weave import Switch, clash, weave

SOURCE = """#include <stdio.h>
#include <stdlib.h>
/* int answer(int x) { return 0; } is not code */
static int limit = 3;

int answer(int x)
{
	if (x > limit && x != 7) // too "large" {
		return -1;
	x = x | 4 | 8;
	if (x & 8)
		x += 100;
	else
		x += 200;
	return x;
}

SYSCALL_DEFINE1(twice, int, x)
{
	return 2 * x;
}
"""
MAIN = """
int planted_fault;
#define planted(n) (planted_fault == (n))
#define SYSCALL_DEFINE1(name, type, x) int name(type x)
{source}
int main(int count, char **words)
{{
	planted_fault = atoi(words[1]);
	for (int x = 1; x < 9; x++)
		printf("%d ", answer(x));
	return 0;
}}
"""


def at(wanted: str, number: int, text: str) -> Switch:
    (span,) = c.places(SOURCE, c.functions(c.masked(SOURCE))["answer"], wanted)
    return Switch(span, number, text)


def test_functions_are_found_by_their_names_and_not_in_comments() -> None:
    found = c.functions(c.masked(SOURCE))
    assert list(found) == ["answer", "twice"]
    assert SOURCE[found["twice"].start : found["twice"].end] == "{\n\treturn 2 * x;\n}"


def test_masking_keeps_every_offset() -> None:
    code = c.masked(SOURCE)
    assert len(code) == len(SOURCE)
    assert code.count("\n") == SOURCE.count("\n")
    assert "large" not in code
    assert "stdio" not in code


def test_a_text_is_found_however_it_is_broken_into_lines() -> None:
    body = c.functions(c.masked(SOURCE))["answer"]
    (span,) = c.places(SOURCE, body, "if (x & 8)   x += 100;")
    assert SOURCE[span.start : span.end] == "if (x & 8)\n\t\tx += 100;"
    assert c.places(SOURCE, body, "x +=") != c.places(SOURCE, body, "2 * x") == []


@pytest.mark.parametrize(
    ("text", "whole"), [("f(x)", True), ('f(")")', True), ("if (x) { y();", False), ("x)", False)]
)
def test_what_is_not_whole_is_seen(text: str, whole: bool) -> None:
    assert c.is_whole(text) == whole


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no compiler")
def test_each_number_does_what_its_edit_says_and_none_what_the_source_did(tmp_path: Path) -> None:
    switches = [
        at("x > limit && x != 7", 1, "0"),
        at("x != 7", 2, "1"),
        at("x > limit", 3, "x >= limit"),
        at("x | 4 | 8", 4, "x | 4"),
        at("x += 100;", 5, "x += 300; // much"),
        at("x = x | 4 | 8;", 6, ""),
    ]
    woven = weave(SOURCE, switches)
    assert woven.text.count("\n") == SOURCE.count("\n")
    program = tmp_path / "program"
    (tmp_path / "a.c").write_text(MAIN.format(source=woven.text))
    subprocess.run(["gcc", "-w", "-o", program, tmp_path / "a.c"], check=True)

    def run(number: int) -> list[int]:
        done = subprocess.run([program, str(number)], capture_output=True, text=True, check=True)
        return [int(word) for word in done.stdout.split()]

    assert run(0) == [113, 114, 115, -1, -1, -1, 115, -1]
    assert run(1) == [113, 114, 115, 112, 113, 114, 115, 112]
    assert run(2) == [113, 114, 115, -1, -1, -1, -1, -1]
    assert run(3) == [113, 114, -1, -1, -1, -1, 115, -1]
    assert run(4) == [205, 206, 207, -1, -1, -1, 207, -1]
    assert run(5) == [313, 314, 315, -1, -1, -1, 315, -1]
    assert run(6) == [201, 202, 203, -1, -1, -1, 207, -1]


def test_a_position_names_the_innermost_switch_there() -> None:
    woven = weave(SOURCE, [at("x > limit && x != 7", 1, "0"), at("x != 7", 2, "wrong")])
    line = next(n for n, text in enumerate(woven.text.splitlines(), 1) if "wrong" in text)
    column = woven.text.splitlines()[line - 1].index("wrong") + 1
    assert woven.numbers_at(line, column)[0] == 2
    assert set(woven.numbers_at(line)) == {1, 2}
    assert woven.numbers_at(1) == []


def test_edits_of_which_neither_holds_the_other_clash() -> None:
    one, two = at("x > limit &&", 1, ""), at("limit && x", 2, "")
    assert clash([one, two]) == (one, two)
    assert clash([one, at("x > limit && x != 7", 2, "0"), at("x | 4", 3, "x")]) is None


def test_the_header_moves_no_line() -> None:
    assert with_header("/* a */\n#include <x.h>\nint y;\n") == (
        "/* a */\n#include <linux/planted.h>\n#line 2\n#include <x.h>\nint y;\n"
    )
