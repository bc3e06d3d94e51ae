# SPDX-License-Identifier: GPL-2.0-only
"""What the backends share: the machine they are asked for, and the command they make of it.

All give the guest two serial lines, one for the console and one for the report, and the same
initramfs; no file system, network or module of the host's is needed or reachable.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vm.kernel.image import Kernel

#: MiB of a guest by default, and at most: a backend may do with less.
MEMORY = 1024
#: What every guest is told: messages of warning level and above on the console (WARN_ON writes
#: at that level) and with their time, a crash ends the guest at once, and an oops is a crash.
_COMMON = ("rdinit=/init", "loglevel=5", "printk.time=1", "oops=panic", "panic=-1")


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
    #: The user's own words for QEMU, after all others.
    qemu_args: tuple[str, ...] = ()
    #: Whether its console is to be typed at: the program's input is then the guest's.
    interactive: bool = False
    #: An ext4 file system to boot, None for the initramfs alone. It is not changed: what the guest
    #: writes is gone with it.
    disk: Path | None = None
    #: Whether the kernel's own speed is to be measured: then nothing is switched off in it.
    measured: bool = False

    def command_line(self, console: str, report: str, *words: str) -> str:
        """Return the kernel's command line.

        :param report: the terminal for the report, without /dev/.
        """
        own = (f"vm.share={self.share}", f"vm.report=/dev/{report}")
        given = (*_COMMON, *own, *words, *self.append)
        return " ".join([console, *given] if console else given)


@dataclass(frozen=True)
class Sign:
    """A trouble of the host's, told from what is said when a guest dies of it."""

    #: Regular expression for a line of the console, or of the program's own last words.
    words: str
    problem: str
    #: What to do.
    hint: str


@dataclass(frozen=True)
class Command:
    """A program to start."""

    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    #: Working folder, None for the launcher's own.
    folder: Path | None = None
    #: The only processor it is to run on, None for any.
    processor: int | None = None
    #: What would show that the host let it down.
    signs: tuple[Sign, ...] = ()
    #: Whether the program is the kernel itself, whose crash is then no fault of the host's.
    is_kernel: bool = False

    def __str__(self) -> str:
        """Return it for a shell, with nothing on its input."""
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment]
        start = [f"cd {shlex.quote(str(self.folder))} &&"] if self.folder else []
        return " ".join([*start, *settings, shlex.join(self.arguments)])


@dataclass(frozen=True)
class Boot:
    """One guest to start."""

    kernel: Kernel
    #: The initramfs.
    image: Path
    #: Where the report goes, in the words of the backend's report().
    report: str
    machine: Machine
    #: An empty folder for files of the backend's own.
    scratch: Path


class Backend(Protocol):
    """What boots kernels; a new one is a file beside this, and a row in choose.BACKENDS."""

    @property
    def name(self) -> str:
        """The name in reports, with what matters of its settings: "qemu/tcg"."""

    def memory(self, machine: Machine) -> int:
        """Return the size of the guest's memory, in MiB."""

    def report(self, fd: int) -> str:
        """Return this backend's name for the launcher's descriptor *fd*, which takes the report."""

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """Return *kernel* in the form that boots fastest, made in *folder* if need be."""

    def command(self, boot: Boot) -> Command:
        """Return the command that boots the guest."""

    def printable(self, boot: Boot) -> str:
        """Return the same for a shell; the report goes to the file that *boot* has for it."""
