# SPDX-License-Identifier: GPL-2.0-only
"""What a set of ELF files needs to run: shared libraries and the loader, as ldd(1) finds them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vm import elf
from vm.errors import Problem
from vm.process import output

#: "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)", "/lib64/ld-linux-x86-64.so.2 (0x...)".
_NEEDED = re.compile(r"^\t(?:(?P<name>\S+) => )?(?P<path>/\S+) \(0x[0-9a-f]+\)$")
_MISSING = re.compile(r"^\t(?P<name>\S+) => not found")


#: Below the root of another system: where its libraries lie.
_FOLDERS = ("lib", "lib/*", "lib64", "usr/lib", "usr/lib/*")


def is_elf(path: Path) -> bool:
    """Return whether *path* starts with the ELF magic."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def parse_ldd(text: str, first: str) -> dict[str, tuple[set[str], set[str]]]:
    """ldd's output, per file: (paths of its libraries, names of those not found).

    ldd prints a heading per file only when it was given several; *first* stands for it otherwise.
    """
    found: dict[str, tuple[set[str], set[str]]] = {first: (set(), set())}
    current = first
    for line in text.splitlines():
        if not line.startswith("\t"):
            if line.endswith(":"):
                current = line[:-1]
                found.setdefault(current, (set(), set()))
        elif match := _NEEDED.match(line):
            found[current][0].add(match["path"])
        elif match := _MISSING.match(line):
            found[current][1].add(match["name"])
    return found


def needed(required: Path, optional: Iterable[Path]) -> tuple[set[str], set[Path]]:
    """Return libraries that *required* and the *optional* ELF files need.

    Returns their paths as the loader looks them up, and those of the optional files that lack a
    library and are better left out. Raises Problem when *required* lacks one.
    """
    optional = list(optional)
    try:
        done = output(["ldd", required, *optional])
    except FileNotFoundError:
        raise Problem(
            "ldd is missing, which finds the libraries of Python\nhint: install libc-bin or glibc"
        ) from None
    found = parse_ldd(done.stdout, str(required))
    if missing := found[str(required)][1]:
        raise Problem(f"{required} needs {', '.join(sorted(missing))}, which ldd does not find")
    paths: set[str] = set()
    dropped: set[Path] = set()
    for path in [required, *optional]:
        needed, missing = found.get(str(path), (set(), set()))
        if missing:
            dropped.add(path)
        else:
            paths |= needed
    return paths, dropped


def needed_below(
    root: Path, required: Path, optional: Iterable[Path]
) -> tuple[set[str], set[Path]]:
    """Return what needed() does of files below *root*, which cannot be run here: libraries by their
    paths in that system."""
    places = {path.name: path for folder in _FOLDERS for path in root.glob(f"{folder}/*.so*")}
    loader = elf.loader(required.read_bytes())
    found, dropped = {loader} if loader else set(), set()
    for path in [required, *optional]:
        closure: dict[str, Path] = {}
        todo = elf.libraries(path.read_bytes())
        while todo:
            name = todo.pop()
            if name in closure:
                continue
            if name not in places:
                if path == required:
                    raise Problem(f"{required} needs {name}, which {root} lacks")
                dropped.add(path)
                break
            closure[name] = places[name]
            todo += elf.libraries(places[name].read_bytes())
        else:
            found |= {f"/{place.relative_to(root)}" for place in closure.values()}
    return found, dropped
