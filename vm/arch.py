# SPDX-License-Identifier: GPL-2.0-only
"""The architectures of guests: all that differs between them on the host's side, once.

A further one is a row here, a file in kernel/configs, a form of image in kernel/image.py, and what
its processor is to be told in backend/qemu.py. Guests run this machine's own Python, so that only
its own architecture can be offered.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from vm.errors import Problem


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


UM = Arch(
    "um",
    text="a User-Mode Linux",
    option="UML",
    images=("linux", "vmlinux"),
    target="linux",
    defconfig="x86_64_defconfig",
    flavour="user-mode-linux",
)
X86_64 = Arch(
    "x86",
    text="an x86",
    option="X86",
    images=("arch/x86/boot/bzImage", "vmlinux"),
    target="bzImage",
    defconfig="x86_64_defconfig",
    flavour="cloud-amd64",
)
#: By make's ARCH. The options of a User-Mode Linux are looked for first: it may have X86 as well.
ARCHITECTURES = {arch.name: arch for arch in (UM, X86_64)}

#: Of the processor that both rows are for: uname(2)'s name, ELF's e_machine, QEMU's program,
#: Debian's package of it, its machine and console, and the C library's loader.
MACHINE = "x86_64"
ELF_MACHINE = 62
QEMU, QEMU_PACKAGE = "qemu-system-x86_64", "qemu-system-x86"
#: Where RHEL and its kin have it, on no PATH.
QEMU_KVM = "/usr/libexec/qemu-kvm"
QEMU_MACHINE, QEMU_CONSOLE = "q35", "ttyS0"
LOADER = "ld-linux-x86-64.so.2"


def require_host() -> None:
    """Raise Problem on a machine of another architecture than guests have."""
    machine = os.uname().machine
    if machine != MACHINE:
        raise Problem(
            f"this machine is {machine}: guests are {MACHINE}, and take Python from the machine\n"
            "hint: run the cases on this machine itself: pytest tests/open_tree_ns"
        )
