# SPDX-License-Identifier: GPL-2.0-only
"""The kernels in the cache: which there are and what they take, and removing the unused ones.

They are unpacked packages (`kernels/SCHEME/...`) and what --build built out of a clean source
(`builds/SOURCE/ARCHITECTURE`). A run holds the folder of its kernel, see Source.obtain().
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.distro.apt import megabytes
from vm.errors import Problem
from vm.kernel import tree
from vm.kernel.source import SCHEMES


@dataclass(frozen=True)
class Entry:
    """A kernel in the cache."""

    #: What --kernel takes to name it.
    name: str
    #: In words.
    what: str
    #: Its folder, and those that are of no use without it.
    folders: tuple[Path, ...]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        files = {
            (info.st_dev, info.st_ino): info.st_blocks * 512
            for folder in self.folders
            for path, _, names in os.walk(folder)
            for info in (os.lstat(os.path.join(path, name)) for name in names)
        }
        return sum(files.values())

    @property
    def unused(self) -> float:
        """Days since it was last used."""
        return (time.time() - self.folders[0].stat().st_mtime) / 86400


def entries() -> Iterator[Entry]:
    """Yield all of them."""
    for scheme in SCHEMES.values():
        for kernel in scheme.cached():
            yield Entry(kernel.name, f"Linux {kernel.release}", kernel.folders)
    for folder in sorted(tree.builds().glob("*/*")):
        yield Entry(str(folder), _described(folder), (folder,))


def _described(folder: Path) -> str:
    """What --build built in *folder*, as far as it came."""
    try:
        found = tree.find(folder, "")
        source = found.source or "a source that is gone"
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
