# SPDX-License-Identifier: GPL-2.0-only
"""Reads a kernel's console: messages behind their time stamps, complaints, the panic."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.utils.complaints import is_complaint

#: "[    1.234567] " or "[    1.234567][    T1] ".
_STAMP = re.compile(r"^(?:<\d>)?(?:\[\s*\d+\.\d+\]\s?(?:\[\s*[TC]\d+\]\s?)?)?")


def message(line: str) -> str:
    """A console line without its time stamp and line end."""
    return _STAMP.sub("", line.rstrip("\r\n"), count=1)


def splats(lines: Iterable[str]) -> list[str]:
    """The lines that report a fault of the kernel."""
    return [line for line in lines if is_complaint(message(line))]


def panicked(lines: Iterable[str]) -> str:
    """The message of the panic, empty when there was none."""
    for line in lines:
        if message(line).startswith("Kernel panic"):
            return message(line)
    return ""
