# SPDX-License-Identifier: GPL-2.0-only
"""docs/coverage.md: the gaps of a function, and the reasons that are carried over."""

from __future__ import annotations

from typing import Any

from vm import paths
from vm.coverage.page import FUNCTIONS, NO_REASON, Gap, gaps, reasons, render

#: Number -> text, count, branches.
LINES = {
    "10": ("if (a | b)", 3, [3, 0, 2, 1]),
    "12": ("if (!mnt)", 3, [0, 3]),
    "13": ("return `x`;", 0, []),
    "15": ("go();", 3, []),
    "16": ("more();", 0, []),
    "18": ("even_more();", 0, [0, 0]),
}


def whole(texts: dict[str, tuple[str, int, list[int]]]) -> dict[str, Any]:
    share = {"run": 1, "all": 2}
    lines = {
        number: {"text": text, "count": count, "branches": branches}
        for number, (text, count, branches) in texts.items()
    }
    function = {"lines_run": share, "branches_taken": share, "lines": lines}
    file = {
        "lines_run": share,
        "branches_taken": share,
        "functions": {"copy_tree": function, "another": function},
    }
    return {"kernel": "7.9.1", "files": {"fs/namespace.c": file}}


def test_lines_in_a_row_are_one_gap_and_the_branch_to_one_is_none_of_its_own() -> None:
    lines = whole(LINES)["files"]["fs/namespace.c"]["functions"]["copy_tree"]["lines"]
    assert list(gaps(lines)) == [
        Gap(10, "if (a | b)", "1 of 4 branches not taken"),
        Gap(13, "if (!mnt) return `x`;", "1 line not run"),
        Gap(16, "more();", "2 lines not run"),
    ]


def test_a_reason_stays_with_its_line_wherever_that_moves() -> None:
    page = render(whole(LINES), "# Head\n\nKept.\n\n## Files\n\nold\n")
    assert page.startswith("# Head\n\nKept.\n\n## Files\n\nLinux 7.9.1.\n")
    assert page.count(NO_REASON) == 3
    assert "another" not in page
    known = page.replace(f"1 of 4 branches not taken | {NO_REASON}", "1 of 4 | never both \\| so")
    known = known.replace(f"1 line not run | {NO_REASON}", "1 line not run | no memory")
    assert set(reasons(known).values()) == {"never both \\| so", "no memory"}
    moved = {str(int(number) + 7): line for number, line in LINES.items()}
    moved["23"] = ("other();", 0, [])
    again = render(whole(moved), known)
    assert "| 17 | `if (a \\| b)` | 1 of 4 branches not taken | never both \\| so |" in again
    assert "| 20 | `if (!mnt) return 'x';` | 1 line not run | no memory |" in again
    assert again.count(NO_REASON) == 1


def test_all_that_the_page_lists_has_its_reason() -> None:
    page = (paths.ROOT / "docs/coverage.md").read_text()
    assert NO_REASON not in page
    for function in (name for names in FUNCTIONS.values() for name in names):
        assert f"\n| {function} | " in page
    assert len(reasons(page)) > 20
