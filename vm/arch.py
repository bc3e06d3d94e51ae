# SPDX-License-Identifier: GPL-2.0-only
"""The architectures of guests: all that differs between them on the host's side, once.

A further one is a row here, a file in kernel/configs, and a form of image in kernel/image.py.
"""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Processor:
    """What programs are made for."""

    #: uname(2)'s name.
    machine: str
    #: ELF's EI_CLASS (1 is 32 bits, 2 is 64) and e_machine.
    elf: tuple[int, int]
    #: Debian's name of the architecture.
    debian: str
    #: QEMU's program that emulates it, and Debian's package of that; empty where none is needed.
    qemu: str = ""
    qemu_package: str = ""
    #: The C library's loader.
    loader: str = ""
    #: What the names of cross compilers for it begin with.
    cross: str = ""

    @property
    def native(self) -> bool:
        """Whether this machine's own programs are made for it."""
        return self.machine == os.uname().machine


@dataclass(frozen=True)
class Board:
    """The machine that QEMU makes."""

    #: Its name for -machine.
    machine: str
    #: What is emulated, for -cpu.
    cpu: str
    #: The terminal of the first serial line, without /dev/.
    console: str
    #: QEMU's words for the second line, which ends in the file {}.
    report_line: tuple[str, ...]
    #: Sizes of the pieces that an emulated kernel gives memory in: a fork and an exit go by them,
    #: and larger ones are fewer (8 % of a run). The least is four pages.
    pieces: str
    #: What the kernel is told to use the console before it has a driver for it.
    early: str
    #: What else the kernel is told.
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arch:
    """An architecture of the kernel's."""

    #: make's ARCH, and the fragment in kernel/configs.
    name: str
    #: For messages: "configured as ...".
    text: str
    #: The option of a `.config` that tells it.
    option: str
    #: Images in a build tree, the better one first; and make's target for that one.
    images: tuple[str, ...]
    target: str
    #: make's target for a `.config` where there is none.
    defconfig: str
    #: Debian's kernel package: the flavour that boots fastest.
    flavour: str
    #: Those whose programs the kernel runs, its own first.
    processors: tuple[Processor, ...]
    #: The terminal of the second serial line, which is for the report, without /dev/.
    report: str
    #: None for a kernel that needs no machine.
    board: Board | None = None

    @property
    def processor(self) -> Processor:
        """The kernel's own."""
        return self.processors[0]


_X86_64 = Processor(
    "x86_64",
    (2, 62),
    "amd64",
    qemu="qemu-system-x86_64",
    qemu_package="qemu-system-x86",
    loader="ld-linux-x86-64.so.2",
    cross="x86_64-linux-gnu-",
)
_I386 = Processor("i686", (1, 3), "i386")
_AARCH64 = Processor(
    "aarch64",
    (2, 183),
    "arm64",
    qemu="qemu-system-aarch64",
    qemu_package="qemu-system-arm",
    loader="ld-linux-aarch64.so.1",
    cross="aarch64-linux-gnu-",
)
_ARMHF = Processor("armv7l", (1, 40), "armhf")

UM = Arch(
    "um",
    text="a User-Mode Linux",
    option="UML",
    images=("linux", "vmlinux"),
    target="linux",
    defconfig="x86_64_defconfig",
    flavour="user-mode-linux",
    processors=(_X86_64,),
    report="ttyS1",
)
X86_64 = Arch(
    "x86",
    text="an x86",
    option="X86",
    images=("arch/x86/boot/bzImage", "vmlinux"),
    target="bzImage",
    defconfig="x86_64_defconfig",
    flavour="cloud-amd64",
    processors=(_X86_64, _I386),
    report="ttyS1",
    board=Board(
        "q35",
        # String instructions are emulated byte by byte, so the kernel must not take them for fast;
        # a fifth level of page tables makes every fork dearer. A quarter of the time.
        cpu="max,-erms,-fsrm,-la57",
        console="ttyS0",
        report_line=("-serial", "file:{}"),
        pieces="16K-1M",
        early="earlyprintk=serial,ttyS0",
        # The check of the timer interrupt panics where a loaded host makes the guest late.
        words=("no_timer_check", "reboot=t"),
    ),
)
ARM64 = Arch(
    "arm64",
    text="an arm64",
    option="ARM64",
    images=("arch/arm64/boot/Image",),
    target="Image",
    defconfig="defconfig",
    flavour="cloud-arm64",
    processors=(_AARCH64, _ARMHF),
    report="ttyS0",  # beside the board's own line, which is of another kind
    board=Board(
        "virt",
        # Signed pointers and vectors are dear to emulate, a third of a run; no case is about them.
        cpu="max,pauth=off,sve=off,sme=off",
        console="ttyAMA0",
        report_line=("-chardev", "file,id=report,path={}", "-device", "pci-serial,chardev=report"),
        pieces="64K-1M",  # pages may have 16 KiB
        early="earlycon",
    ),
)
#: By make's ARCH. The options of a User-Mode Linux are looked for first: it may have X86 as well.
ARCHITECTURES = {arch.name: arch for arch in (UM, X86_64, ARM64)}
#: Those whose programs a guest may have, by Debian's names.
PROCESSORS = {one.debian: one for arch in ARCHITECTURES.values() for one in arch.processors}
#: Where RHEL and its kin have QEMU for the machine's own processor, on no PATH.
QEMU_KVM = "/usr/libexec/qemu-kvm"


def native() -> Arch:
    """Return the architecture for QEMU that is this machine's own; x86 where there is none."""
    found = (arch for arch in ARCHITECTURES.values() if arch.board and arch.processor.native)
    return next(found, X86_64)
