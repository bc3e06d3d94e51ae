# SPDX-License-Identifier: GPL-2.0-only
"""The page docs/coverage.md: what the cases run of the flag's paths, and why not the rest.

The tables are made from a run's coverage.json. A reason is written by hand into the page, once: it
belongs to the function and the text of the line, and is carried over when the page is made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

#: The functions that the flag and what becomes of its result go through.
FUNCTIONS = {
    "fs/namespace.c": (
        *("vfs_open_tree", "open_new_namespace", "create_new_namespace", "__do_loopback"),
        *("copy_tree", "clone_mnt", "lock_mnt_tree", "attach_recursive_mnt", "mntns_install"),
        *("path_pivot_root", "do_move_mount"),
    ),
    "fs/nsfs.c": ("ns_ioctl",),
}
NO_REASON = "**no reason is given yet**"
_ROW = re.compile(r"\| \d+ \| `(.*)` \| ([^|]*) \| (.*) \|")
_HEADING = re.compile(r"### (\S+)")


@dataclass(frozen=True)
class Gap:
    """What no case runs: code in a row, or branches out of a line that runs."""

    line: int
    text: str
    what: str


def gaps(lines: Mapping[str, Any]) -> Iterator[Gap]:
    """Yield the gaps of a function, whose *lines* are as coverage.json has them.

    The branch to what is a gap itself is none of its own.
    """
    found = sorted((int(number), line) for number, line in lines.items())
    at = 0
    while at < len(found):
        number, line = found[at]
        end = at
        while end < len(found) and not found[end][1]["count"]:
            end += 1
        if end > at:
            text = line["text"]
            if at and re.match(r"return\b|goto\b", text):  # what of, tells the line before
                text = f"{found[at - 1][1]['text']} {text}"
            yield Gap(number, text, f"{end - at} line{'s' * (end > at + 1)} not run")
            at = end
            continue
        missed = sum(not count for count in line["branches"])
        leads_there = at + 1 < len(found) and not found[at + 1][1]["count"]
        if missed > leads_there:
            yield Gap(
                number, line["text"], f"{missed} of {len(line['branches'])} branches not taken"
            )
        at += 1


def reasons(page: str) -> dict[tuple[str, str], str]:
    """Return the reasons in *page*, by function and text of the line."""
    found, function = {}, ""
    for line in page.splitlines():
        if heading := _HEADING.match(line):
            function = heading[1]
        elif (row := _ROW.fullmatch(line)) and row[3] != NO_REASON:
            found[function, row[1]] = row[3]
    return found


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


def _share(share: Mapping[str, int]) -> str:
    return f"{share['run']}/{share['all']}"


def render(whole: Mapping[str, Any], before: str) -> str:
    """Return the page for coverage.json's *whole*; *before* is the page as it was.

    All of it up to the first heading of a table is kept as it was.
    """
    known = reasons(before)
    lines = [before.partition("\n## ")[0].rstrip(), "", "## Files", ""]
    lines += [f"Linux {whole['kernel']}.", ""]
    lines += ["| file | lines run | branches taken |", "|---|---|---|"]
    for name, file in whole["files"].items():
        shares = (_share(file[key]) for key in ("lines_run", "branches_taken"))
        lines.append(f"| {name} | {' | '.join(shares)} |")
    lines += ["", "## Functions", "", "| function | lines run | branches taken |", "|---|---|---|"]
    chosen = [
        (title, whole["files"][name]["functions"][title])
        for name, titles in FUNCTIONS.items()
        for title in titles
        if title in whole["files"].get(name, {"functions": {}})["functions"]
    ]
    for title, function in chosen:
        shares = (_share(function[key]) for key in ("lines_run", "branches_taken"))
        lines.append(f"| {title} | {' | '.join(shares)} |")
    lines += ["", "## What is not run, and why"]
    for title, function in chosen:
        if found := list(gaps(function["lines"])):
            lines += ["", f"### {title}", "", "| line | code | what | why |", "|---|---|---|---|"]
            for gap in found:
                text = _escaped(gap.text)
                why = known.get((title, text), NO_REASON)
                lines.append(f"| {gap.line} | `{text}` | {gap.what} | {why} |")
    return "\n".join(lines) + "\n"
