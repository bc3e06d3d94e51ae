# SPDX-License-Identifier: GPL-2.0-only
"""Failure reports that need no file system: a case may have changed its root when it fails.

What formatting a failure reads and imports is read and imported in the pytest process, before the
fork: the sources that tracebacks quote, and the modules that pytest and the standard library load
at the first failure only.
"""

from __future__ import annotations

import contextlib
import ctypes
import linecache
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import ModuleType

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


def _read(module: ModuleType) -> None:
    name = getattr(module, "__file__", None)
    if name and name not in _seen:
        _seen.add(name)
        linecache.checkcache(name)
        linecache.getlines(name)


def prime(config: pytest.Config) -> None:
    """Read the sources of the project's modules into the line cache, to stay there.

    Repeated before every case, and done again only when modules have come: to look at each one
    touches its memory, which the fork before has made expensive.
    """
    if config.stash.get(_MODULES, 0) == len(sys.modules):
        return
    roots = (f"{config.rootpath}/", f"{Path(__file__).parents[2]}/")
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if isinstance(name, str) and name.startswith(roots) and "/site-packages/" not in name:
            _read(module)
    _pin()
    config.stash[_MODULES] = len(sys.modules)


def rehearse(config: pytest.Config) -> None:
    """Go through the formatting of failures once, for the imports that happen on the way."""
    for module in _LIBRARY:
        _read(module)
    for name, module in list(sys.modules.items()):
        if name.startswith(
            (
                "_pytest.python",
                "_pytest.runner",
                "_pytest.fixtures",
                "_pytest.rais",
                "_pytest.outcomes",
                "pluggy.",
            )
        ):
            _read(module)
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


def _pin() -> None:
    """Keep what the line cache holds even when the files seem gone or changed."""
    for name, entry in list(linecache.cache.items()):
        if len(entry) == 4:
            size, _, lines, full_name = entry
            # An entry without a time is one whose source is no file: never checked again.
            linecache.cache[name] = (size, None, lines, full_name)
