# SPDX-License-Identifier: GPL-2.0-only
"""Counts for other programs and for people: JSON, lcov's format, a text, and gcovr's pages."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vm.coverage import table
from vm.coverage.counts import Counts, File, Share, branches_taken, lines_run
from vm.coverage.patch import Judged
from vm.errors import Problem
from vm.initramfs import python
from vm.process import output


def _share(share: Share) -> dict[str, int]:
    return asdict(share)


def as_json(
    counts: Counts,
    names: list[str],
    source: Path,
    kernel: str,
    judged: Judged | None = None,
    revisions: str = "",
) -> dict[str, Any]:
    """Return what `coverage.json` has; RESULTS.md explains it."""
    whole: dict[str, Any] = {"kernel": kernel, "files": {}}
    for name in names:
        file = counts[name]
        texts = ["", *(source / name).read_text(errors="replace").splitlines()]
        whole["files"][name] = {
            "lines_run": _share(lines_run(file.lines.values())),
            "branches_taken": _share(branches_taken(file.lines.values())),
            "functions": {
                title: {
                    "line": function.line,
                    "entered": function.count,
                    "lines_run": _share(lines_run(file.of(title).values())),
                    "branches_taken": _share(branches_taken(file.of(title).values())),
                    "lines": {
                        str(number): {
                            "text": texts[number].strip(),
                            "count": line.count,
                            "branches": line.branches,
                        }
                        for number, line in sorted(file.of(title).items())
                    },
                }
                for title, function in file.functions.items()
            },
        }
    if judged is not None:
        whole["patch"] = {"revisions": revisions, **asdict(judged)}
    return whole


def lcov(counts: Counts, source: Path) -> Iterator[str]:
    """Yield the lines of a tracefile, see geninfo(1)."""
    for name, file in sorted(counts.items()):
        yield from ("TN:", f"SF:{source / name}")
        for title, function in file.functions.items():
            yield f"FN:{function.line},{title}"
            yield f"FNDA:{function.count},{title}"
        yield f"FNF:{len(file.functions)}"
        yield f"FNH:{sum(function.count > 0 for function in file.functions.values())}"
        yield from _lcov_lines(file)
        yield "end_of_record"


def _lcov_lines(file: File) -> Iterator[str]:
    lines = sorted(file.lines.items())
    for number, line in lines:
        for branch, count in enumerate(line.branches):
            yield f"BRDA:{number},0,{branch},{count if line.count else '-'}"
    taken, run = branches_taken(file.lines.values()), lines_run(file.lines.values())
    yield from (f"BRF:{taken.all}", f"BRH:{taken.run}")
    for number, line in lines:
        yield f"DA:{number},{line.count}"
    yield from (f"LF:{run.all}", f"LH:{run.run}")


def _gcov_document(counts: Counts, names: list[str], source: Path) -> dict[str, Any]:
    """Return the counts as gcov 14 has them, which is what gcovr reads."""
    files = [
        {
            "file": name,
            "functions": [
                {
                    "name": title,
                    "demangled_name": title,
                    "start_line": function.line,
                    "start_column": 1,
                    "end_line": max(counts[name].of(title), default=function.line),
                    "end_column": 1,
                    "blocks": 1,
                    "blocks_executed": int(function.count > 0),
                    "execution_count": function.count,
                }
                for title, function in counts[name].functions.items()
            ],
            "lines": [
                {
                    "line_number": number,
                    "function_name": line.function,
                    "count": line.count,
                    "unexecuted_block": line.count == 0,
                    "branches": [
                        {
                            "count": count,
                            "throw": False,
                            "fallthrough": False,
                            "source_block_id": 0,
                            "destination_block_id": number,
                        }
                        for number, count in enumerate(line.branches, 1)
                    ],
                    "block_ids": [0],
                }
                for number, line in sorted(counts[name].lines.items())
            ],
        }
        for name in names
    ]
    return {
        "format_version": "2",
        "gcc_version": "",
        "current_working_directory": str(source),
        "data_file": "coverage.gcda",
        "files": files,
    }


def write(
    folder: Path, counts: Counts, names: list[str], whole: Mapping[str, Any], source: Path
) -> None:
    """Write coverage.json, coverage.info and coverage.txt into *folder*."""
    (folder / "coverage.json").write_text(json.dumps(whole, indent=2) + "\n")
    (folder / "coverage.info").write_text("\n".join(lcov(counts, source)) + "\n")
    lines = [*table.files(counts, names), "", *table.functions(counts, names)]
    (folder / "coverage.txt").write_text("\n".join(lines) + "\n")


def draw(folder: Path, counts: Counts, names: list[str], source: Path, scratch: Path) -> Path:
    """Write pages for people into *folder*, a new one; return the first.

    :raises Problem: gcovr, which draws them, can neither be installed nor run.
    """
    program = shutil.which("gcovr") or str(
        python.environment(python.requirements("coverage")) / "bin/gcovr"
    )
    folder.mkdir(exist_ok=True)
    page = folder / "index.html"
    with gzip.open(scratch / "coverage.gcov.json.gz", "wt") as file:
        json.dump(_gcov_document(counts, names, source), file)
    title = "What the cases of open_tree(OPEN_TREE_NAMESPACE) ran"
    command = [program, "--root", str(source), "--gcov-use-existing-files"]
    command += ["--gcov-keep", "--html-title", title, "--html-details", str(page), str(scratch)]
    done = output(command, folder=source)
    if done.returncode or not page.exists():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Problem(f"gcovr: {last}")
    return page
