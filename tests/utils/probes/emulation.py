# SPDX-License-Identifier: GPL-2.0-only
"""Emulation of another processor for single programs, as qemu-user does it: it passes on the system
calls that it knows, and answers all others in the kernel's place."""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path

from tests.utils.tasks.process import ChildError, in_child

#: e_machine in an ELF file (elf(5)).
_MACHINE = slice(18, 20)


def _machine(path: Path) -> bytes:
    """Return the processor that the ELF file *path* is for, empty where it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(20)
    except OSError:
        return b""
    return head[_MACHINE] if head.startswith(b"\x7fELF") else b""


def found(process: Path, python: Path) -> str:
    """Return the emulator that *process*, a folder of /proc's, runs *python* in; empty for none."""
    theirs, ours = _machine(process / "exe"), _machine(python)
    if not theirs or not ours or theirs == ours:
        return ""
    return os.path.basename(os.readlink(process / "exe"))


@functools.cache
def emulator() -> str:
    """Return the emulator that this process runs in, empty for none."""
    # An emulator shows a process its program in place of itself, and does not for other processes.
    parent = Path("/proc") / str(os.getpid())
    try:
        return in_child(lambda: found(parent, Path(sys.executable)))
    except (OSError, ChildError):
        return ""


def why() -> str:
    """What may be why a call is not known, where a processor is emulated; else empty."""
    if name := emulator():
        return f"{name} emulates another processor here and answers in the kernel's place"
    return ""
