# SPDX-License-Identifier: GPL-2.0-only
"""The command lines that boot a kernel: QEMU's and User-Mode Linux's; virtme_ng.py has virtme-ng's.

All give the guest the same two serial lines, the console and /dev/ttyS1 for the report, and the
same initramfs; no file system, network or module of the host's is needed or reachable.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vm.kernel.decompress import unpacked
from vm.kernel.image import Kernel

#: What every guest is told: messages of warning level and above on the console (WARN_ON writes
#: at that level) and with their time, a crash ends the guest at once, and an oops is a crash.
_COMMON = ("rdinit=/init", "loglevel=5", "printk.time=1", "oops=panic", "panic=-1")

#: What QEMU emulates. String instructions are emulated byte by byte, so the kernel must not take
#: them for fast; a fifth level of page tables makes every fork dearer. A quarter of the time.
_EMULATED_CPU = "max,-erms,-fsrm,-la57"
#: Self-tests of the kernel's cryptography take a second under emulation. The check of the timer
#: interrupt panics where a loaded host makes the guest late.
_FASTER = ("cryptomgr.notests", "no_timer_check")
#: What the kernel does beside its work costs an emulated processor a fifth of the time of a case:
#: setting the timer anew for each tick, accounting of memory to groups, DAMON, and the clearing of
#: pages that are filled at once.
_SPARING = (
    *("highres=off", "nohz=off"),
    *("cgroup_disable=memory", "damon_stat.enabled=0", "init_on_alloc=0"),
)
#: How QEMU's guest ends; the second word is for the guest's init.
_END = ("reboot=t", "vm.end=restart")
#: MiB. The image takes 50 twice while it is unpacked; UML maps its memory from /dev/shm.
_QEMU_MEMORY, _UML_MEMORY = 1024, 512


@dataclass(frozen=True)
class Machine:
    """The guest's size, its place among others, and what else its kernel is told."""

    #: MiB, None for the backend's own choice.
    memory: int | None = None
    cpus: int = 1
    #: Which part of the cases it runs: "2/3" is the second of three.
    share: str = "1/1"
    #: Its number among the guests that run at the same time, from 1.
    slot: int = 1
    #: Words for the end of the kernel's command line.
    append: tuple[str, ...] = ()
    #: Whether its console is to be typed at: the program's input is then the guest's.
    interactive: bool = False
    #: An ext4 file system to boot, None for the initramfs alone. It is not changed: what the guest
    #: writes is gone with it.
    disk: Path | None = None
    #: Whether the kernel's own speed is to be measured: then nothing is switched off in it.
    measured: bool = False

    def command_line(self, console: str, *words: str) -> str:
        """The kernel's command line."""
        given = (*_COMMON, f"vm.share={self.share}", *words, *self.append)
        return " ".join([console, *given] if console else given)

    def qemu_command_line(self, accelerator: str) -> str:
        """The command line of a kernel in QEMU."""
        sparing = _SPARING if accelerator == "tcg" and not self.measured else ()
        return self.command_line("console=ttyS0", *_FASTER, *sparing, *_END)

    @property
    def qemu_memory(self) -> str:
        """For QEMU's -m."""
        return f"{self.memory or _QEMU_MEMORY}M"


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


class Backend(Protocol):
    """What boots kernels."""

    @property
    def name(self) -> str:
        """In reports."""

    def report(self, fd: int) -> str:
        """How command() is told that the report goes to the descriptor *fd* of the launcher."""

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """*kernel* in the form that boots fastest, made in *folder* if need be."""

    def command(
        self, kernel: Kernel, image: Path, report: str, machine: Machine, scratch: Path
    ) -> Command:
        """Boot *kernel* with *image*; *scratch* is an empty folder for files of its own."""


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
        """In reports."""
        return f"qemu/{self.accelerator}"

    def report(self, fd: int) -> str:
        """A file that is inherited."""
        return f"/proc/self/fd/{fd}"

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """Decompressed, where the guest would take long for it."""
        return unpacked(kernel, folder) if self.accelerator == "tcg" else kernel

    def command(
        self, kernel: Kernel, image: Path, report: str, machine: Machine, scratch: Path
    ) -> Command:
        """Boot *kernel* with *image*; *report* is the file that ttyS1 is written to."""
        return Command(
            (
                *(str(self.program), *self.options),
                *("-machine", "q35", "-accel", self.accelerator),
                *("-cpu", "host" if self.accelerator == "kvm" else _EMULATED_CPU),
                *("-m", machine.qemu_memory, "-smp", str(machine.cpus)),
                *("-kernel", str(kernel.path), "-initrd", str(image)),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-monitor", "none", "-serial", "stdio", "-serial", f"file:{report}"),
                *_qemu_disk(machine),
                *("-append", machine.qemu_command_line(self.accelerator)),
            ),
            # Where it keeps what the guest writes to a disk.
            (*self.environment, *((("TMPDIR", str(scratch)),) if machine.disk else ())),
        )


def _qemu_disk(machine: Machine) -> tuple[str, ...]:
    if machine.disk is None:
        return ()
    file = str(machine.disk).replace(",", ",,")
    drive = f"file={file},format=raw,if=none,id=root,snapshot=on"
    return ("-drive", drive, "-device", "virtio-blk-pci,drive=root")


@dataclass(frozen=True)
class Uml:
    """User-Mode Linux: the kernel is the program."""

    @property
    def name(self) -> str:
        """In reports."""
        return "uml"

    def report(self, fd: int) -> str:
        """A descriptor that is inherited."""
        return f"fd:{fd}"

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """As it is."""
        return kernel

    def command(
        self, kernel: Kernel, image: Path, report: str, machine: Machine, scratch: Path
    ) -> Command:
        """Boot *kernel* with *image*; *scratch* takes its sockets and pid file."""
        memory = machine.memory or _UML_MEMORY
        disk = (f"ubd0={scratch / 'written'},{machine.disk}",) if machine.disk else ()
        return Command(
            (
                *(str(kernel.path), f"mem={memory}M", f"initrd={image}"),
                *("con=null", f"con0={'fd:0' if machine.interactive else 'null'},fd:1"),
                *(f"ssl1=null,{report}", *disk),
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


def _processor(number: int) -> int:
    """The processor for the guest in slot *number*; launchers that run beside one another do not
    all begin with the same."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[(os.getpid() + number) % len(usable)]
