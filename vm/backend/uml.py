# SPDX-License-Identifier: GPL-2.0-only
"""The backend for User-Mode Linux: the kernel is the program."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from vm.arch import UM
from vm.backend.base import Boot, Command, Machine, Sign
from vm.errors import Problem
from vm.kernel.image import Kernel

#: MiB by default.
_MEMORY = 512
#: The same for the benchmark, which has ten thousand tasks sleep.
_MEASURED = 1024
#: Where the kernel looks for a place for its memory, a file that grows: the first variable that is
#: set, then these folders.
_VARIABLES, _FOLDERS = ("TMPDIR", "TMP", "TEMP"), ("/dev/shm", "/tmp")
_MORE_ROOM = (
    "less --memory, fewer --guests, or TMPDIR on a file system with more room, best a tmpfs (in a"
    " container: docker run --shm-size)"
)
_SIGNS = (
    # arch/um/kernel/trap.c: a page of the memory's file could not be had.
    Sign(
        r"Bus error - the host /dev/shm|Kernel mode signal 7\b",
        "the host ran out of room for the memory of User-Mode Linux",
        _MORE_ROOM,
    ),
    # arch/um/os-Linux/start_up.c, where seccomp has been tried before.
    Sign(
        r"check_ptrace|PTRACE_\w+ failed|ptrace: Operation not permitted",
        "User-Mode Linux may neither trace its processes here nor filter their system calls",
        "allow ptrace (docker run --cap-add SYS_PTRACE, sysctl kernel.yama.ptrace_scope below 3),"
        " or take a kernel for QEMU",
    ),
    # arch/um/kernel/um_arch.c.
    Sign(
        "Too few physical memory",
        "the guest's memory is too small for the kernel and its image",
        "more --memory",
    ),
    # arch/um/os-Linux/mem.c.
    Sign(
        "must be not mounted noexec",
        "no program may be run from where User-Mode Linux has its memory",
        "TMPDIR on a file system without noexec",
    ),
)


def lacks(machine: Machine) -> str:
    """Return what of *machine* User-Mode Linux cannot be, with a hint; empty for nothing."""
    if machine.qemu_args:
        return "--qemu-args: User-Mode Linux is run without QEMU\nhint: --append is for the kernel"
    if machine.cpus > 1 and machine.disk is None:
        return f"--cpus {machine.cpus}: User-Mode Linux has one processor\nhint: leave it out"
    return ""


@dataclass(frozen=True)
class Uml:
    """User-Mode Linux: the kernel is the program."""

    @property
    def name(self) -> str:
        """Its name in reports."""
        return "uml"

    def memory(self, machine: Machine) -> int:
        """Return the size of the guest's memory, in MiB."""
        return machine.memory or (_MEASURED if machine.measured else _MEMORY)

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
        folder = _memory_folder(self.memory(machine), machine.slot)
        return Command(
            (
                *(str(kernel.path), f"mem={self.memory(machine)}M", f"initrd={boot.image}"),
                *("con=null", f"con0={'fd:0' if machine.interactive else 'null'},fd:1"),
                *(f"ssl1=null,{boot.report}", *disk),
                # With seccomp a system call of the guest costs half of what it does with ptrace.
                *(f"uml_dir={scratch}", "seccomp=auto"),
                *machine.command_line("", UM.report, "vm.end=poweroff").split(),
            ),
            (("HOME", str(scratch)), ("TMPDIR", str(folder)), *kernel.loader_environment),
            kernel.folder,
            # The kernel and its user space are processes that take turns at every system call and
            # page fault: on one processor that is nearly twice as fast as across two.
            _processor(machine.slot),
            _SIGNS,
            is_kernel=True,
        )

    def printable(self, boot: Boot) -> str:
        """Return the command with the descriptor 3 for the report."""
        return f"{self.command(replace(boot, report='fd:3'))} </dev/null 3>{boot.report}"


def _memory_folder(size: int, guests: int) -> Path:
    """Return a folder with room for the memory of so many *guests*, files of *size* MiB.

    The files grow as memory is used, and a guest dies where one cannot: in the middle of a case.

    :raises Problem: none has room.
    """
    given = [text for name in _VARIABLES if (text := os.environ.get(name))]
    free = {folder: _room(Path(folder)) for folder in (*given[:1], *_FOLDERS)}
    found = next((folder for folder, room in free.items() if room >= size * guests), None)
    if found is None:
        there = ", ".join(f"{folder} has {room} MiB" for folder, room in free.items())
        many = f"{guests} guests" if guests > 1 else "the guest"
        raise Problem(
            f"no room for the memory of {many}, {size * guests} MiB: {there} (0 where no program"
            f" may be run)\nhint: {_MORE_ROOM}"
        )
    return Path(found)


def _room(folder: Path) -> int:
    """Return how many MiB a file in *folder* that programs are run from can take."""
    try:
        info = os.statvfs(folder)
    except OSError:
        return 0
    if info.f_flag & os.ST_NOEXEC or not os.access(folder, os.W_OK | os.X_OK):
        return 0
    return info.f_bavail * info.f_frsize >> 20


def _processor(number: int) -> int:
    """Return the processor for the guest in slot *number*; launchers that run beside one another
    do not all begin with the same."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[(os.getpid() + number) % len(usable)]
