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
from typing import Any

import pytest

from tests.utils import pytest_internals

#: Library modules whose frames turn up in the tracebacks of cases.
_LIBRARY = (contextlib, ctypes, pathlib, shutil, subprocess, tempfile, threading)
_PYTEST = ("_pytest.python", "_pytest.runner", "_pytest.fixtures", "_pytest.rais", "pluggy.")
_OURS = Path(__file__).parents[3]

_seen: set[str] = set()


def cache_sources(root: Path) -> None:
    """Put the sources of the project's modules, and of those that tracebacks show, into the line
    cache, to stay there though the files be gone.

    :param root: where else modules of the project lie.
    """
    folders = (f"{root}/", f"{_OURS}/")
    cache: dict[str, Any] = linecache.cache
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or file in _seen:
            continue
        _seen.add(file)
        project = file.startswith(folders) and "/site-packages/" not in file
        if project or name.startswith(_PYTEST) or module in _LIBRARY:
            with contextlib.suppress(OSError):
                text = Path(file).read_text(encoding="utf-8", errors="replace")
                # An entry without a time is one whose source is no file: never checked again.
                cache[file] = (len(text), None, [f"{line}\n" for line in text.split("\n")], file)


def preload_failure_formatting(config: pytest.Config) -> None:
    """Go through the formatting of failures once, for the imports that happen on the way."""
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
    for lexer in ("python", "diff"):
        pytest_internals.highlight(config, text, lexer)
