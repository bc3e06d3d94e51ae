# SPDX-License-Identifier: GPL-2.0-only
"""The name of a run's cases, by which what they leave behind or break is known to be theirs.

Every process of a case has it (so the kernel's log names them), and so has every tmpfs that the
helpers of the cases mount, as its source (so a mount namespace tells by its table whose it is).
"""

from __future__ import annotations

import ctypes
import os

from tests.utils.uapi.syscalls import prctl

_PR_SET_NAME = 15  # linux/prctl.h
_VARIABLE = "OPEN_TREE_NS_CASE"


def case_name(pid: int) -> str:
    """Return the name of the cases of pytest process *pid*: at most 15 characters."""
    return f"case-{pid}"


def take_name(name: str) -> None:
    """Give the calling process, and those it forks, the *name* of the cases."""
    buffer = ctypes.create_string_buffer(name.encode())
    prctl(_PR_SET_NAME, ctypes.addressof(buffer))
    os.environ[_VARIABLE] = name


def tmpfs_source() -> str:
    """Return the source of a tmpfs that the calling process mounts."""
    return os.environ.get(_VARIABLE, "tmpfs")
