# SPDX-License-Identifier: GPL-2.0-only
"""The backend for User-Mode Linux: the kernel is the program."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vm.backend.base import Boot, Command, Machine
from vm.kernel.image import Kernel

#: MiB by default; it is mapped from /dev/shm.
_MEMORY = 512


@dataclass(frozen=True)
class Uml:
    """User-Mode Linux: the kernel is the program."""

    @property
    def name(self) -> str:
        """Its name in reports."""
        return "uml"

    def memory(self, machine: Machine) -> int:
        """Return the size of the guest's memory, in MiB."""
        return machine.memory or _MEMORY

    def report(self, fd: int) -> str:
        """Return the words for a descriptor that is inherited."""
        return f"fd:{fd}"

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """Return *kernel* itself: this backend needs no preparation."""
        return kernel

    def command(self, boot: Boot) -> Command:
        """Return the command; the scratch folder takes the kernel's sockets and pid file."""
        kernel, machine, scratch = boot.kernel, boot.machine, boot.scratch
        disk = (f"ubd0={scratch / 'written'},{machine.disk}",) if machine.disk else ()
        return Command(
            (
                *(str(kernel.path), f"mem={self.memory(machine)}M", f"initrd={boot.image}"),
                *("con=null", f"con0={'fd:0' if machine.interactive else 'null'},fd:1"),
                *(f"ssl1=null,{boot.report}", *disk),
                # With seccomp a system call of the guest costs half of what it does with ptrace.
                *(f"uml_dir={scratch}", "seccomp=auto"),
                *machine.command_line("", "vm.end=poweroff").split(),
            ),
            (("HOME", str(scratch)), *kernel.loader_environment),
            kernel.folder,
            # The kernel and its user space are processes that take turns at every system call and
            # page fault: on one processor that is nearly twice as fast as across two.
            _processor(machine.slot),
        )

    def printable(self, boot: Boot) -> str:
        """Return the command with the descriptor 3 for the report."""
        return f"{self.command(replace(boot, report='fd:3'))} </dev/null 3>{boot.report}"


def _processor(number: int) -> int:
    """Return the processor for the guest in slot *number*; launchers that run beside one another
    do not all begin with the same."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[(os.getpid() + number) % len(usable)]
