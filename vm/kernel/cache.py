# SPDX-License-Identifier: GPL-2.0-only
"""The kernels in the cache: which there are and what they take, and removing the unused ones.

They are unpacked packages (`kernels/SCHEME/...`), what --build built out of a clean source
(`builds/SOURCE/ARCHITECTURE`), packaged sources (`sources/SUITE/VERSION`) and the copies of sources
in which faults are planted. A run holds the folder of its kernel, see Source.obtain().
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vm import paths
from vm.distro.apt import megabytes
from vm.errors import Problem
from vm.kernel import debian_source, tree
from vm.kernel.scheme import Entry
from vm.kernel.source import SCHEMES


def entries() -> Iterator[Entry]:
    """Yield all of them."""
    for scheme in SCHEMES.values():
        yield from scheme.cached()
    for folder in sorted(tree.builds().glob("*/*")):
        yield Entry(str(folder), _described(folder), (folder,))
    for folder in sorted(debian_source.folder().glob("*/*")):
        yield Entry(str(folder), "the kernel's source", (folder,))
    for folder in sorted(tree.copies().glob("*")):
        yield Entry(str(folder), "a copy of it with faults in it", (folder,))


def _described(folder: Path) -> str:
    """What --build built in *folder*, as far as it came."""
    try:
        found = tree.find(folder, "")
        # A second tree has links for a source.
        there = found.source and (found.source / "Kbuild").resolve().parent
        source = there or "a source that is gone"
        return f"Linux {tree.kernel(found).release}, built from {source}"
    except Problem:
        return "an incomplete build"


def listing() -> Iterator[str]:
    """Yield a line for each of them."""
    for entry in entries():
        yield f"{entry.name}  {entry.what}, in the cache, {megabytes(entry.size)}"


def prune(days: float) -> Iterator[str]:
    """Remove those that were not used for *days* and are not in use; a line for each, and a sum."""
    count = total = 0
    for entry in [entry for entry in entries() if entry.unused >= days]:
        size = entry.size
        with paths.locked("kernels"), paths.idle(entry.folders[0]) as idle:
            if not idle:
                yield f"kept {entry.name}: in use"
                continue
            for folder in entry.folders:
                _remove(folder)
        count, total = count + 1, total + size
        yield f"removed {entry.name}, {megabytes(size)}"
    yield f"{count} removed, {megabytes(total)}"


def _remove(folder: Path) -> None:
    # Out of sight first: half a kernel must not be found.
    with tempfile.TemporaryDirectory(prefix=".old-", dir=folder.parent) as name:
        shutil.move(folder, name)
    with suppress(OSError):  # others lie there
        for parent in list(folder.relative_to(paths.cache()).parents)[:-2]:
            (paths.cache() / parent).rmdir()
