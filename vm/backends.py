# SPDX-License-Identifier: GPL-2.0-only
"""The command lines that boot a kernel: QEMU's and User-Mode Linux's.

Both give the guest the same two serial lines, the console and /dev/ttyS1 for the report, and the
same initramfs; no file system, network or module of the host's is needed or reachable.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from vm.kernels import Kernel

#: What every guest is told: messages of warning level and above on the console (WARN_ON writes
#: at that level), a crash ends the guest at once, and an oops is a crash.
_COMMON = ("rdinit=/init", "loglevel=5", "oops=panic", "panic=-1")

#: What QEMU emulates. String instructions are emulated byte by byte, so the kernel must not take
#: them for fast; a fifth level of page tables makes every fork dearer. A quarter of the time.
_EMULATED_CPU = "max,-erms,-fsrm,-la57"
#: Self-tests of the kernel's cryptography take a second under emulation. The check of the timer
#: interrupt panics where a loaded host makes the guest late.
_FASTER = ("cryptomgr.notests", "no_timer_check")
#: How QEMU's guest ends; the second word is for the guest's init.
_END = ("reboot=t", "vm.end=restart")
#: MiB. The image takes 50 twice while it is unpacked; UML maps its memory from /dev/shm.
_QEMU_MEMORY, _UML_MEMORY = 1024, 512


@dataclass(frozen=True)
class Machine:
    """The guest's size."""

    #: MiB, None for the backend's own choice.
    memory: int | None = None
    cpus: int = 1
    #: Which part of the cases it runs: "2/3" is every third from the second on.
    share: str = "1/1"

    @property
    def words(self) -> list[str]:
        """The kernel command line's part."""
        return [*_COMMON, f"vm.share={self.share}"]


@dataclass(frozen=True)
class Command:
    """A program to start."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    #: Working folder, None for the launcher's own.
    folder: Path | None = None
    #: The only processor it is to run on, None for any.
    processor: int | None = None

    def __str__(self) -> str:
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment]
        start = [f"cd {shlex.quote(str(self.folder))} &&"] if self.folder else []
        return " ".join([*start, *settings, shlex.join(self.arguments)])


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be run: installed, or unpacked into the cache."""

    program: Path
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    #: "tcg" or "kvm".
    accelerator: str = "tcg"

    @property
    def name(self) -> str:
        """The backend's name in reports."""
        return f"qemu/{self.accelerator}"

    def command(self, kernel: Kernel, image: Path, report: str, machine: Machine) -> Command:
        """Boot *kernel* with *image*; *report* is the file that ttyS1 is written to."""
        return Command(
            (
                *(str(self.program), *self.options),
                *("-machine", "q35", "-accel", self.accelerator),
                *("-cpu", "host" if self.accelerator == "kvm" else _EMULATED_CPU),
                *("-m", f"{machine.memory or _QEMU_MEMORY}M", "-smp", str(machine.cpus)),
                *("-kernel", str(kernel.path), "-initrd", str(image)),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-monitor", "none", "-serial", "stdio", "-serial", f"file:{report}"),
                *(
                    "-append",
                    " ".join(["console=ttyS0", *_FASTER, *machine.words, *_END]),
                ),
            ),
            self.environment,
        )


@dataclass(frozen=True)
class Uml:
    """User-Mode Linux: the kernel is the program. *scratch* takes its sockets and pid file."""

    scratch: Path

    @property
    def name(self) -> str:
        """The backend's name in reports."""
        return "uml"

    def command(self, kernel: Kernel, image: Path, report: str, machine: Machine) -> Command:
        """Boot *kernel* with *image*; *report* is "fd:N", a descriptor that it inherits."""
        return Command(
            (
                *(str(kernel.path), f"mem={machine.memory or _UML_MEMORY}M", f"initrd={image}"),
                *("con=null", "con0=null,fd:1", f"ssl1=null,{report}"),
                # With seccomp a system call of the guest costs half of what it does with ptrace.
                *(f"uml_dir={self.scratch}", "seccomp=auto"),
                *(*machine.words, "vm.end=poweroff"),
            ),
            (("HOME", str(self.scratch)), *kernel.loader_environment),
            kernel.folder,
            # The kernel and its user space are processes that take turns at every system call and
            # page fault: on one processor that is nearly twice as fast as across two.
            _processor(int(machine.share.partition("/")[0])),
        )


def _processor(number: int) -> int:
    """The processor for guest *number*, counted from 1."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[(number - 1) % len(usable)]
