# SPDX-License-Identifier: GPL-2.0-only
"""What gcov says, read and added up; and as lcov and tables have it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from vm.coverage import files, table
from vm.coverage.counts import Counts, add, branches_taken, from_gcov, lines_run

NAME = "fs/namespace.c"


def branch(count: int) -> dict[str, Any]:
    return {"count": count, "throw": False, "fallthrough": False}


def line(number: int, count: int, *branches: int, function: str = "copy_tree") -> dict[str, Any]:
    return {
        "line_number": number,
        "count": count,
        "unexecuted_block": count == 0,
        "function_name": function,
        "branches": [branch(one) for one in branches],
    }


#: Of an object: the file itself, a header, and one that is not of the source.
DOCUMENT = {
    "format_version": "1",
    "current_working_directory": "/build",
    "data_file": "namespace.gcda",
    "files": [
        {
            "file": NAME,
            "functions": [
                {"name": "copy_tree", "start_line": 10, "end_line": 14, "execution_count": 3},
                {"name": "never", "start_line": 20, "end_line": 22, "execution_count": 0},
            ],
            "lines": [
                line(10, 3),
                line(11, 3, 1, 2),
                line(12, 1),
                line(13, 0, 0, 0),
                line(20, 0, function="never"),
            ],
        },
        {"file": "fs/../include/linux/x.h", "functions": [], "lines": [line(5, 7)]},
        {"file": "/usr/include/stdio.h", "functions": [], "lines": [line(1, 1)]},
        {"file": "../elsewhere.c", "functions": [], "lines": [line(1, 1)]},
    ],
}


def counts() -> Counts:
    return from_gcov(DOCUMENT)


def test_the_files_of_the_source_are_told_by_their_path_in_it() -> None:
    assert set(counts()) == {NAME, "include/linux/x.h"}


def test_lines_branches_and_functions_are_counted() -> None:
    file = counts()[NAME]
    assert {number: one.count for number, one in file.lines.items()} == {
        10: 3,
        11: 3,
        12: 1,
        13: 0,
        20: 0,
    }
    assert str(lines_run(file.lines.values())) == "3/5  60 %"
    assert str(branches_taken(file.lines.values())) == "2/4  50 %"
    assert {title: one.count for title, one in file.functions.items()} == {
        "copy_tree": 3,
        "never": 0,
    }
    assert set(file.of("never")) == {20}


def test_a_line_of_two_functions_is_one_with_the_counts_of_both() -> None:
    document: dict[str, Any] = copy.deepcopy(DOCUMENT)
    document["files"][0]["lines"].append(line(13, 4, 4, 0, function="never"))
    found = from_gcov(document)[NAME].lines[13]
    assert (found.count, found.branches) == (4, [0, 0, 4, 0])


def test_what_several_guests_ran_is_added() -> None:
    whole = counts()
    other: dict[str, Any] = copy.deepcopy(DOCUMENT)
    other["files"][0]["lines"] = [line(13, 2, 0, 2), line(14, 1)]
    other["files"][0]["functions"][1]["execution_count"] = 5
    add(whole, from_gcov(other))
    lines = whole[NAME].lines
    assert (lines[13].count, lines[13].branches, lines[14].count) == (2, [0, 2], 1)
    assert lines[11].branches == [1, 2]
    assert whole[NAME].functions["never"].count == 5


def test_a_header_whose_branches_differ_between_objects_keeps_the_most() -> None:
    whole = counts()
    other: dict[str, Any] = copy.deepcopy(DOCUMENT)
    other["files"][0]["lines"] = [line(13, 2, 1, 0, 1)]
    add(whole, from_gcov(other))
    assert whole[NAME].lines[13].branches == [1, 0, 1]


def test_the_tables_have_files_and_functions() -> None:
    head, row = table.files(counts(), [NAME])
    assert head.split() == ["lines", "run", "branches", "taken", "functions", "entered"]
    assert row.split() == [NAME, *["3/5", "60", "%", "2/4", "50", "%", "1/2", "50", "%"]]
    head, first, second = table.functions(counts(), [NAME])
    assert head.startswith(NAME)
    assert first.split() == ["copy_tree", *["3/4", "75", "%", "2/4", "50", "%"]]
    assert second.split() == ["never", *["0/1", "0", "%", "0/0", "-"]]


def test_lcov_is_told_the_same() -> None:
    text = "\n".join(files.lcov({NAME: counts()[NAME]}, Path("/src")))
    assert text == (
        "TN:\nSF:/src/fs/namespace.c\n"
        "FN:10,copy_tree\nFNDA:3,copy_tree\nFN:20,never\nFNDA:0,never\nFNF:2\nFNH:1\n"
        "BRDA:11,0,0,1\nBRDA:11,0,1,2\nBRDA:13,0,0,-\nBRDA:13,0,1,-\nBRF:4\nBRH:2\n"
        "DA:10,3\nDA:11,3\nDA:12,1\nDA:13,0\nDA:20,0\nLF:5\nLH:3\nend_of_record"
    )


def test_json_has_each_line_of_each_function(tmp_path: Path) -> None:
    (tmp_path / "fs").mkdir()
    (tmp_path / NAME).write_text("\n" * 10 + "\tif (x)\n" * 11)
    whole = files.as_json(counts(), [NAME], tmp_path, "7.9.1")
    found = whole["files"][NAME]["functions"]["copy_tree"]
    assert found["entered"] == 3
    assert found["lines_run"] == {"run": 3, "all": 4}
    assert found["lines"]["11"] == {"text": "if (x)", "count": 3, "branches": [1, 2]}
    assert "patch" not in whole
