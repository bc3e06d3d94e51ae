# SPDX-License-Identifier: GPL-2.0-only
"""Failure reports that need no file system: a case may have changed its root when it fails.

What formatting a failure reads and imports is read and imported in the pytest process, before the
fork: the sources that tracebacks quote, and the modules that pytest and the standard library load
at the first failure only.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import linecache
import mmap
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import tokenize
import traceback
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, overload

import pytest

#: Library modules whose frames turn up in the tracebacks of cases.
_LIBRARY: tuple[ModuleType, ...] = (
    contextlib,
    ctypes,
    pathlib,
    shutil,
    subprocess,
    tempfile,
    threading,
)

_seen: set[str] = set()
#: How many modules there were when their sources were last read.
_MODULES = pytest.StashKey[int]()


class _Lines(Sequence[str]):
    """The lines of a source file, made of its contents when they are first asked for."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    @functools.cached_property
    def _lines(self) -> list[str]:
        stream = io.BytesIO(self._data)
        encoding, _ = tokenize.detect_encoding(stream.readline)
        stream.seek(0)
        lines = io.TextIOWrapper(stream, encoding).readlines()
        return [line if line.endswith("\n") else f"{line}\n" for line in lines]

    def __len__(self) -> int:
        return len(self._lines)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        return self._lines[index]


def _file(module: ModuleType) -> str:
    name = getattr(module, "__file__", None)
    return name if isinstance(name, str) else ""


def _keep(modules: Iterable[ModuleType]) -> None:
    """Put the sources of *modules* into the line cache, to stay there though the files be gone.

    They lie in shared memory, of which a fork copies no page tables: on the heap they would be a
    tenth of it.
    """
    names = {_file(module) for module in modules} - {"", *_seen}
    _seen.update(names)
    sizes = {name: os.stat(name).st_size for name in names if os.path.isfile(name)}
    area = memoryview(mmap.mmap(-1, 1 + sum(sizes.values())))
    cache: dict[str, Any] = linecache.cache
    for name, size in sizes.items():
        with contextlib.suppress(OSError), io.FileIO(name) as file:
            data = area[: file.readinto(area[:size])]
            area = area[len(data) :]
            # An entry without a time is one whose source is no file: never checked again.
            cache[name] = (size, None, _Lines(data), name)


def prime(config: pytest.Config) -> None:
    """Keep the sources of the project's modules.

    Repeated before every case, and done again only when modules have come: to look at each one
    touches its memory, which the fork before has made expensive.
    """
    if config.stash.get(_MODULES, 0) == len(sys.modules):
        return
    roots = (f"{config.rootpath}/", f"{Path(__file__).parents[2]}/")
    _keep(
        module
        for module in list(sys.modules.values())
        if _file(module).startswith(roots) and "/site-packages/" not in _file(module)
    )
    config.stash[_MODULES] = len(sys.modules)


def rehearse(config: pytest.Config) -> None:
    """Go through the formatting of failures once, for the imports that happen on the way."""
    ours = tuple(f"_pytest.{name}" for name in ("python", "runner", "fixtures", "rais", "outcomes"))
    _keep(
        module
        for name, module in list(sys.modules.items())
        if name.startswith((*ours, "pluggy.")) or module in _LIBRARY
    )
    unequal: list[tuple[object, object]] = [
        ("one\ntwo", "one\n2"),
        ([1, 2], [1, 3]),
        ({"a": 1}, {"a": 2}),
        ({1}, {2}),
        (b"a", b"b"),
    ]
    for left, right in unequal:
        config.hook.pytest_assertrepr_compare(config=config, op="==", left=left, right=right)
    try:
        raise OSError(2, "rehearsal", "path")
    except OSError:
        traceback.format_exc()
        text = str(pytest.ExceptionInfo.from_current().getrepr(style="long", showlocals=True))
    if config.pluginmanager.has_plugin("terminalreporter"):
        # Loads the highlighter, where pytest would use one.
        highlight = getattr(config.get_terminal_writer(), "_highlight", None)
        if highlight is not None:
            highlight(text, lexer="python")
            highlight(text, lexer="diff")
