# SPDX-License-Identifier: GPL-2.0-only
"""The options of a run that tells which lines of the kernel ran, and what becomes of its counts."""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vm.coverage import files, gcov, table
from vm.coverage.counts import Counts
from vm.coverage.patch import Judged, Place, changed, judge
from vm.errors import Exit, Problem
from vm.kernel import tree
from vm.run.run import Run
from vm.terminal import complain, say

#: What the kernel's mount namespaces are made of; those that a kernel has.
FILES = (
    *("fs/namespace.c", "fs/pnode.c", "fs/nsfs.c", "fs/nullfs.c"),
    *("kernel/nstree.c", "kernel/nscommon.c", "kernel/nsproxy.c"),
)
#: Below the options.
HELP = """--coverage:
  Builds the tree a second time, with gcov, in a folder of the cache (the first time takes as long
  as any whole build), runs the cases and prints which lines and branches of the files about mount
  namespaces they ran. coverage.json, coverage.info (lcov), coverage.txt (each function) and pages
  for a browser are with the other artefacts. --coverage FILE... is about these files instead.

    python3 -m vm run --build --coverage-of HEAD~3..HEAD --fail-uncovered

  names the lines of code that the last three commits added or changed and no case ran.

"""


@dataclass(frozen=True)
class Wish:
    """What to tell of the lines that run."""

    #: Files of the source.
    files: tuple[str, ...]
    source: Path
    #: The revisions of a patch, empty for none, and the lines that it adds.
    revisions: str = ""
    patch: tuple[Place, ...] = ()
    #: Whether a line of the patch that did not run makes for an exit status of its own.
    fail: bool = False


def add(verb: argparse.ArgumentParser) -> None:
    """Add the options."""
    group = verb.add_argument_group("coverage")
    group.add_argument(
        "--coverage",
        nargs="*",
        metavar="FILE",
        help="with --build: tell which lines and branches of the kernel the cases ran, in these"
        " files of its source (default: those about mount namespaces; see below)",
    )
    group.add_argument(
        "--coverage-of",
        metavar="REV[..REV]",
        help="with --build: name the lines that no case ran, of those that the tree has beyond REV,"
        " or that the commits REV..REV add or change",
    )
    group.add_argument(
        "--fail-uncovered",
        action="store_true",
        help="with --coverage-of: exit status 5 when no case failed and there is such a line",
    )


def wished(arguments: argparse.Namespace, kernels: Sequence[str]) -> Wish | None:
    """Return what is asked for, None for nothing. Raises Problem when options do not fit."""
    option = "--coverage" if arguments.coverage is not None else "--coverage-of"
    if arguments.fail_uncovered and arguments.coverage_of is None:
        raise Problem(
            "--fail-uncovered needs --coverage-of\nhint: --coverage-of HEAD~1..HEAD", Exit.USAGE
        )
    if arguments.coverage is None and arguments.coverage_of is None:
        return None
    if not arguments.build:
        raise Problem(
            f"{option} needs --build\nhint: a kernel must be built to count what runs", Exit.USAGE
        )
    if len(kernels) > 1 or arguments.repeat > 1:
        raise Problem(f"{option}: is for one run\nhint: one --kernel, no --repeat", Exit.USAGE)
    if arguments.system is not None:
        raise Problem(f"{option}: not in a complete system\nhint: leave --system out", Exit.USAGE)
    gcov.program()
    source = _source(kernels[0], option)
    given = arguments.coverage or []
    for name in given:
        if not (source / name).is_file() or not name.endswith(".c"):
            raise Problem(
                f"--coverage {name}: not a file of C in {source}\n"
                "hint: by its path in the source, e.g. fs/namei.c",
                Exit.USAGE,
            )
    patch = changed(source, arguments.coverage_of) if arguments.coverage_of else []
    if arguments.coverage_of and not patch:
        raise Problem(
            f"--coverage-of {arguments.coverage_of}: adds or changes no line\n"
            "hint: BASE for all since BASE, changes that are not committed included",
            Exit.USAGE,
        )
    names = [os.path.normpath(name) for name in given]
    names = names or [name for name in FILES if (source / name).is_file()]
    names += [place.file for place in patch if place.file.endswith(".c")]
    return Wish(
        tuple(dict.fromkeys(names)),
        source,
        arguments.coverage_of or "",
        tuple(patch),
        arguments.fail_uncovered,
    )


def _source(kernel: str, option: str) -> Path:
    folder = Path(os.path.expanduser(kernel))
    if not folder.is_dir():
        raise Problem(f"{option}: {kernel}: not a build tree\nhint: --kernel DIR", Exit.USAGE)
    source = tree.find(folder, "").source
    if source is None:
        raise Problem(f"{folder}: {tree.NO_SOURCE}")
    return source


def conclude(wish: Wish, run: Run, verbose: bool) -> Exit:
    """Print which lines ran in the guests of *run*, which have ended, and write the artefacts.

    :raises Problem: no guest has told.
    """
    guests = [slot.guest.records.coverage for slot in run.slots]
    told = [guest for guest in guests if guest]
    if run.kernel.home is None or not told:
        raise Problem("--coverage: no guest came to tell which lines ran")
    if len(told) < len(guests):
        complain(
            f"--coverage: {len(guests) - len(told)} of {len(guests)} guests died and told nothing"
        )
    with tempfile.TemporaryDirectory(prefix="vm-") as name:
        scratch = Path(name)
        counts = gcov.read(run.kernel.home, told, scratch / "guests")
        there = [file for file in wish.files if file in counts]
        if absent := [file for file in wish.files if file not in counts]:
            complain(f"--coverage: not part of this kernel: {', '.join(absent)}")
        judged = judge(list(wish.patch), counts) if wish.revisions else None
        release = str(run.slots[0].guest.records.environment.get("release", ""))
        whole = files.as_json(counts, there, wish.source, release, judged, wish.revisions)
        files.write(run.folder, counts, there, whole, wish.source)
        _print(counts, there, judged, wish, verbose)
        try:
            page = files.draw(run.folder / "coverage", counts, there, wish.source, scratch)
        except Problem as problem:
            complain(f"--coverage: no pages: {problem}")
            page = run.folder / "coverage.txt"
        say(f"coverage: {page}")
    return Exit.UNCOVERED if wish.fail and judged and judged.not_run else Exit.OK


def _print(
    counts: Counts, names: list[str], judged: Judged | None, wish: Wish, verbose: bool
) -> None:
    lines = [*table.files(counts, names)]
    if verbose:
        lines += ["", *table.functions(counts, names)]
    if judged is not None:
        lines += ["", *table.patch(judged, wish.revisions)]
    print("", *lines, sep="\n", flush=True)
