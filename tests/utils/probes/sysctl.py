# SPDX-License-Identifier: GPL-2.0-only
"""The machine's settings that forbid or limit what cases do: sysctl names, and what they hold."""

from __future__ import annotations

from pathlib import Path

#: Where the settings are.
PROC = Path("/proc")


def value(name: str) -> str:
    """Return the value of a sysctl, empty where the kernel does not have it."""
    try:
        return (PROC / "sys" / name.replace(".", "/")).read_text().strip()
    except OSError:
        return ""


def is_too_low(name: str, number: int | str = 10000) -> str:
    """Return a sentence on sysctl *name*, which forbids something that *number* allows."""
    return f"{name} is {value(name)}; sysctl {name}={number} allows it"
