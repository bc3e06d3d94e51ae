# SPDX-License-Identifier: GPL-2.0-only
"""What the numbers depend on: kernel, processors, caller. Never the name of the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _processor() -> str:
    """The processor's model, as /proc/cpuinfo has it; empty where it says nothing."""
    for line in _read("/proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "cpu model", "Processor"):
            return value.strip()
    return ""


def facts() -> dict[str, Any]:
    """Return the facts, ready for JSON."""
    name = os.uname()
    return {
        "release": name.release,
        "version": name.version,
        "machine": name.machine,
        # But for paths: they say something of the machine, and nothing of the numbers.
        "command_line": " ".join(
            word for word in _read("/proc/cmdline").split() if "/" not in word
        ),
        "processors": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20,
        # Lock debugging makes every lock dearer, and some methods take more of them than others.
        "lock_debugging": os.path.exists("/proc/lockdep"),
        "user_namespace": not capget().has(CAP_SYS_ADMIN),
        "python": platform.python_version(),
    }


def mount_max() -> int:
    """Return fs.mount-max: how many mounts a namespace may have; 0 where that cannot be read."""
    return int(_read("/proc/sys/fs/mount-max") or 0)
