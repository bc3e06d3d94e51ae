# SPDX-License-Identifier: GPL-2.0-only
"""MOVE_MOUNT_BENEATH of mounts that are mounted already, for the modules of cases on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.utils.expect import Outcome, outcome
from tests.utils.uapi.constants import AT_FDCWD, MOVE_MOUNT_BENEATH
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import move_mount


def move_beneath(source: str, target: str) -> int:
    """Move the mount at *source* beneath the topmost one at *target*."""
    return move_mount(AT_FDCWD, source, AT_FDCWD, target, MOVE_MOUNT_BENEATH)


def open_mount(path: str | Path) -> int:
    """Return a descriptor on what is topmost at *path* now."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def ends_of(calls: Mapping[str, Callable[[], object]]) -> dict[str, Outcome]:
    """Make *calls*, none of which may change the caller's mounts; return how they ended."""
    before = mount_table()
    found = {name: outcome(call) for name, call in calls.items()}
    assert mount_table() == before
    return found
