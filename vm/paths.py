# SPDX-License-Identifier: GPL-2.0-only
"""Where things lie: the checkout, the cache, the folder of past runs.

Nothing is ever written into the checkout. What can be fetched or built again goes to the cache,
results go to the state folder; both follow the XDG base directory specification. A cache entry is
made under a temporary name beside its place and renamed, so that it is whole or absent.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vm.errors import Exit, Problem

#: The project's own folder name below the XDG directories.
NAME = "open-tree-namespace-tests"
ROOT = Path(__file__).resolve().parent.parent
#: Folders of kernels that this process holds.
_held_here: list[Path] = []
_HINT = "set XDG_CACHE_HOME and XDG_STATE_HOME (or HOME) to folders that this user can write to"


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification has relative paths ignored.
    if value.startswith("/"):
        return Path(value) / NAME
    home = os.path.expanduser("~")
    if not home.startswith("/"):
        raise Problem(
            f"this user, {os.getuid()}, has no home folder, neither in HOME nor in /etc/passwd\n"
            f"hint: {_HINT}"
        )
    return Path(home) / default / NAME


def _made(path: Path) -> Path:
    """Return the folder *path*, made if need be.

    :raises Problem: it cannot be.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}\nhint: {_HINT}") from None
    return path


def cache() -> Path:
    """Return the cache folder, made when it is missing."""
    return _made(_xdg("XDG_CACHE_HOME", ".cache"))


def new_run_folder() -> Path:
    """Return a dated, empty folder for one run's artefacts."""
    parent = _made(_xdg("XDG_STATE_HOME", ".local/state") / "runs")
    stem = time.strftime("%Y-%m-%dT%H-%M-%S")
    for number in range(1, 1000):
        path = parent / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            path.mkdir()
            return path
    raise FileExistsError(f"{parent}: a thousand runs within one second")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache lock *name*: one launcher at a time fetches or builds an entry."""
    with (cache() / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def using(folder: Path) -> Iterator[None]:
    """Hold the folder of a kernel, as others may too: nobody builds in it or removes it meanwhile.

    In the cache, its time says from then on when it was last used.
    """
    with _held(folder, fcntl.LOCK_SH):
        if folder.is_relative_to(cache()):
            os.utime(folder)
        _held_here.append(folder)
        try:
            yield
        finally:
            _held_here.remove(folder)


@contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Hold the folder of a kernel alone, once nobody uses it any more.

    :raises Problem: this process does, and would wait for itself.
    """
    if folder in _held_here:
        raise Problem(
            f"{folder}: a kernel of this run is there already, and another is to be built in it\n"
            "hint: name a build tree once",
            Exit.USAGE,
        )
    with idle(folder) as at_once:
        if at_once:
            yield
            return
    print(f"waiting for another run that uses {folder} ...", file=sys.stderr, flush=True)
    with _held(folder, fcntl.LOCK_EX):
        yield


@contextmanager
def idle(folder: Path) -> Iterator[bool]:
    """Hold the folder of a kernel alone if nobody uses it now; whether that is so."""
    with _held(folder, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
        yield held


@contextmanager
def _held(folder: Path, how: int) -> Iterator[bool]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        held = True
        try:
            fcntl.flock(fd, how)
        except BlockingIOError:
            held = False
        except OSError:
            pass  # a network file system without such locks
        yield held
    finally:
        os.close(fd)


def entry(path: Path, make: Callable[[Path], None]) -> Path:
    """Return the cache entry *path*; when absent *make* fills it, as a folder or file of another
    name."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=path.parent) as scratch:
        draft = Path(scratch) / path.name
        make(draft)
        try:
            draft.rename(path)
        except OSError:
            if not path.exists():
                raise
            shutil.rmtree(draft, ignore_errors=True)  # another launcher was faster
    return path
