# SPDX-License-Identifier: GPL-2.0-only
"""Filters of system calls (seccomp(2)), which answer in the kernel's place or kill the caller.

Services are started under them (systemd.exec(5), SystemCallFilter=), and containers.
"""

from __future__ import annotations

import signal
from pathlib import Path

from tests.utils.tasks.process import ChildKilled

_STATUS = Path("/proc/self/status")
#: SECCOMP_MODE_FILTER (linux/seccomp.h), as /proc/PID/status gives it.
_FILTERED = "Seccomp:\t2\n"
_HINT = "under systemd see SystemCallFilter=; @system-service leaves out @mount"


def in_force() -> bool:
    """Return whether a filter of system calls holds for the calling process."""
    try:
        return _FILTERED in _STATUS.read_text(errors="replace")
    except OSError:
        return False


def killed_by_filter(error: BaseException) -> bool:
    """Return whether *error* is the death of a child that made a call which a filter kills for."""
    return isinstance(error, ChildKilled) and error.signal == signal.SIGSYS


def why_killed(error: ChildKilled) -> str:
    """Return the signal that killed a child, and where it comes from as far as that is known."""
    if killed_by_filter(error):
        return f"SIGSYS: a seccomp filter kills whoever makes the call ({_HINT})"
    return error.signal.name


def why_refused() -> str:
    """Return what may be why a call is refused, where a filter is in force; else empty."""
    return f"a seccomp filter is in force, and may be why ({_HINT})" if in_force() else ""
