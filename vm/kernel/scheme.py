# SPDX-License-Identifier: GPL-2.0-only
"""What names kernels: a source is one that can be had, a scheme a place that many come from.

A new scheme is a file beside debian.py, and a row in source.SCHEMES: from there --kernel, `kernels`
and the help take it. Its kernels lie in the cache as kernels/SCHEME/...
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.arch import Arch
from vm.kernel.image import Kernel


@dataclass(frozen=True)
class Source:
    """A kernel that can be had."""

    arch: Arch
    #: For messages, before the word "kernel".
    text: str
    #: Fetch or build it, if need be. Raises Problem when that fails.
    make: Callable[[], Kernel]

    def obtain(self, stack: ExitStack) -> Kernel:
        """Fetch or build the kernel, if need be, and hold its folder until *stack* is left.

        :raises Problem: it cannot be had.
        """
        while True:
            kernel = self.make()
            with suppress(FileNotFoundError):  # pruned just now: once more
                if kernel.home is not None:
                    stack.enter_context(paths.using(kernel.home))
                return kernel


@dataclass(frozen=True)
class Entry:
    """A kernel in the cache."""

    #: What --kernel takes to name it.
    name: str
    #: For the list: its release, and what it was built from.
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


@dataclass(frozen=True)
class Scheme:
    """Kernels that come from one kind of place."""

    #: What the text for --kernel begins with; the place follows behind a colon.
    name: str
    #: The text as a whole, for the help.
    form: str
    #: The source that a text names. Raises Problem when it names none.
    find: Callable[[str], Source]
    #: The newest kernel that has the flag, None where there is no place to look for it.
    newest: Callable[[Arch], Source | None]
    #: What is in the cache.
    cached: Callable[[], Iterable[Entry]]
    #: What a place has, as --kernel takes it, None where there are no places. Raises Problem when
    #: there is no such place.
    obtainable: Callable[[str], list[str]] | None
    #: Whether a text is this scheme's, where the name at its beginning does not tell.
    claims: Callable[[str], bool] | None = None

    def names(self, text: str) -> bool:
        """Return whether *text* is this scheme's, be it right or wrong, rather than a path."""
        if self.claims is not None:
            return self.claims(text)
        return re.match(rf"{self.name}(?:$|[:/=])", text) is not None
