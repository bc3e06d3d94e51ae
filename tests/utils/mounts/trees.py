# SPDX-License-Identifier: GPL-2.0-only
"""Building blocks of the trees the cases copy: directories, files, tmpfs and bind mounts."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from tests.utils.tasks.case_name import tmpfs_source
from tests.utils.uapi.constants import (
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_STRING,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
)
from tests.utils.uapi.syscalls import fsconfig, fsmount, fsopen, mount


def tmpfs(path: Path, *files: str, flags: int = 0) -> Path:
    """Mount a new private tmpfs at *path* (made when missing) and put *files* on it.

    Each file holds its own name. Return *path*.
    """
    path.mkdir(parents=True, exist_ok=True)
    mount(tmpfs_source(), path, "tmpfs", flags, "mode=755")
    mount(None, path, None, MS_PRIVATE)
    for name in files:
        write(path / name)
    return path


def write(path: Path, text: str | None = None) -> Path:
    """Make the file *path*, and its directories; it holds *text*, or its own name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(path.name if text is None else text)
    return path


def bind(source: Path, target: Path, *, recursive: bool = False) -> Path:
    """Bind-mount *source* at *target*, made when missing (a file for a file). Return *target*."""
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        write(target)
    mount(source, target, None, MS_BIND | (MS_REC if recursive else 0))
    return target


def propagation(path: Path, kind: int, *, recursive: bool = False) -> Path:
    """Change the propagation type of the mount at *path* (``MS_SHARED`` and so on)."""
    mount(None, path, None, kind | (MS_REC if recursive else 0))
    return path


def created(fs_name: str = "tmpfs", **settings: object) -> int:
    """Create a file system with *settings* and return the descriptor that fsmount(2) takes."""
    fs = fsopen(fs_name)
    for key, value in {"source": tmpfs_source(), **settings}.items():
        fsconfig(fs, FSCONFIG_SET_STRING, key, str(value))
    fsconfig(fs, FSCONFIG_CMD_CREATE)
    return fs


def fresh_tmpfs() -> int:
    """Return a descriptor of a new tmpfs that is mounted nowhere (fsopen(2), fsmount(2))."""
    return fsmount(created())


def readable(top: Path | str) -> dict[str, str]:
    """Return every file that can be read below *top*: its path from there, and what it holds.

    What mounts cover is not reached: two trees that give the same here show the same files.
    Files that cannot be read (those of namespaces) do not count.
    """
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory) / name
            with contextlib.suppress(OSError):
                found[str(path.relative_to(top))] = path.read_text()
    return found
