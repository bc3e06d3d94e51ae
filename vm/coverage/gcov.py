# SPDX-License-Identifier: GPL-2.0-only
"""From the counters of guests to counts of lines: by gcov, the compiler's own program."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from vm.coverage.counts import Counts, add, from_gcov
from vm.errors import Problem
from vm.process import output


def program() -> str:
    """Return gcov's name: that of the compiler CC names, if it names one.

    :raises Problem: there is none.
    """
    compiler = Path(os.environ.get("CC", "gcc").split()[-1]).name
    name = compiler.replace("gcc", "gcov", 1) if "gcc" in compiler else "gcov"
    if shutil.which(name) is None:
        raise Problem(f"{name} is missing, which comes with gcc\nhint: install gcc's own package")
    return name


def read(objects: Path, guests: Sequence[Mapping[str, bytes]], scratch: Path) -> Counts:
    """Return what ran in all *guests*, by the counters of each.

    :param objects: the build tree, with gcc's notes (.gcno).
    :param scratch: an empty folder.
    :raises Problem: the counters are not of this tree.
    """
    counts: Counts = {}
    for number, guest in enumerate(guests):
        for path, data in guest.items():
            found = _object(objects, path)
            if found is not None:
                folder = scratch / str(number) / found.parent
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{found.name}.gcda").write_bytes(data)
                notes = folder / f"{found.name}.gcno"
                notes.unlink(missing_ok=True)
                notes.symlink_to(objects / found.parent / notes.name)
                add(counts, _counts(folder, f"{found.name}.gcda"))
    return counts


def _object(objects: Path, path: str) -> Path | None:
    """The object in the tree that counters came of, None for one that is not there.

    They name it by where it was compiled, which ccache may have done in another tree.
    """
    parts = Path(path).with_suffix("").parts
    for start in range(len(parts)):
        found = Path(*parts[start:])
        if (objects / found).with_suffix(".gcno").is_file():
            return found
    return None


def _counts(folder: Path, name: str) -> Counts:
    words = ("--json-format", "--stdout", "--branch-probabilities", name)
    done = output([program(), *words], folder=folder)
    # gcov goes on with zeroes.
    if done.returncode or "stamp mismatch" in done.stderr or "version" in done.stderr:
        raise Problem(
            f"gcov cannot read the counters of {name}: {done.stderr.strip()}\n"
            "hint: gcov must be that of the gcc that built the kernel: give CC=gcc-VERSION"
        )
    counts: Counts = {}
    for line in done.stdout.splitlines():
        with suppress(json.JSONDecodeError):
            add(counts, from_gcov(json.loads(line)))
    return counts
