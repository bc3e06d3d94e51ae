# SPDX-License-Identifier: GPL-2.0-only
"""What can still be learned of a case that was killed, died, or hangs."""

from __future__ import annotations

import os
import re
import signal
from contextlib import suppress
from pathlib import Path

from tests.utils.isolation.child import STACKS_SIGNAL
from tests.utils.isolation.zygote import KILL_TIMEOUT
from tests.utils.tasks.process import ended

#: How long a child may take to write its stacks, in seconds.
_DUMP_TIMEOUT = 1.0


def stacks(fd: int) -> str:
    """Return the Python stacks that a child's faulthandler has written to *fd*; empty without."""
    size = os.fstat(fd).st_size
    text = os.pread(fd, min(size, 1 << 20), 0).decode(errors="replace")
    # Below this frame there is nothing but pytest's and this plugin's own code.
    text = re.sub(r"^  File .* in call_and_report\n(  File .*\n)*", "", text, flags=re.M)
    return f"\n\nPython stacks:\n{text.rstrip()}" if text else ""


def dump_and_kill(pid: int, pidfd: int, fd: int) -> str:
    """Kill a child that hangs; return its Python stacks, which it writes to *fd*, and its place in
    the kernel.

    :param pidfd: the child's.
    """
    kernel = _kernel_view(pid)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, STACKS_SIGNAL)
    # It dies of the signal, once the stacks are written: it must not go on after the wait
    # that the signal interrupts.
    ended(pidfd, _DUMP_TIMEOUT)
    found = stacks(fd)
    if not found:
        found = (
            f"\n\nNo Python stacks: {signal_name(STACKS_SIGNAL)} had no effect in"
            f" {_DUMP_TIMEOUT:g} s (the case blocks it, or is stuck in the kernel)"
        )
    return found + kernel


def _kernel_view(pid: int) -> str:
    """Return where in the kernel process *pid* is, as far as /proc tells the caller."""
    text = ""
    for name in ("wchan", "stack"):
        with suppress(OSError):
            content = Path(f"/proc/{pid}/{name}").read_text(errors="replace").strip()
            if content not in ("", "0"):
                text += f"\n\n/proc/{pid}/{name}:\n{content}"
    return text


def unkillable(pid: int) -> str:
    """Return what /proc tells of a child that SIGKILL does not end."""
    text = f"\n\nNot gone {KILL_TIMEOUT:g} s after SIGKILL, left behind: PID {pid}"
    with suppress(OSError):
        text += f"\n\n/proc/{pid}/status:\n{Path(f'/proc/{pid}/status').read_text().strip()}"
    return text + _kernel_view(pid)


def signal_name(number: int) -> str:
    """Return SIGKILL for 9, and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
