# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU backend: its command line; and a QEMU, found or unpacked from the distribution's package
into the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.arch import QEMU as _PROGRAM
from vm.arch import QEMU_CONSOLE, QEMU_KVM, QEMU_MACHINE
from vm.arch import QEMU_PACKAGE as _PACKAGE
from vm.backend.base import MEMORY, Boot, Command, Machine, Sign
from vm.distro import apt
from vm.errors import Problem
from vm.kernel.decompress import unpacked
from vm.kernel.image import Kernel
from vm.process import output

#: What QEMU emulates. String instructions are emulated byte by byte, so the kernel must not take
#: them for fast; a fifth level of page tables makes every fork dearer. A quarter of the time.
_EMULATED_CPU = "max,-erms,-fsrm,-la57"
#: Self-tests of the kernel's cryptography take a second under emulation. The check of the timer
#: interrupt panics where a loaded host makes the guest late.
_FASTER = ("cryptomgr.notests", "no_timer_check")
#: What the kernel does beside its work costs an emulated processor a fifth of the time of a case:
#: setting the timer anew for each tick, accounting of memory to groups, DAMON, and the clearing of
#: pages that are filled at once. A fork and an exit go by pieces of memory, and larger ones are
#: fewer (8 % of a run).
_SPARING = (
    *("highres=off", "nohz=off"),
    *("cgroup_disable=memory", "damon_stat.enabled=0", "init_on_alloc=0"),
    "thp_anon=16K-1M:always",
)
#: In QEMU's words.
SIGNS = (
    Sign(
        "Cannot allocate memory|cannot set up guest memory",
        "there is not enough memory here for the guest's",
        "less --memory, or fewer --guests",
    ),
    Sign(
        "initrd is too large",
        "the guest's memory is too small for the kernel and its image",
        "more --memory",
    ),
    Sign(
        "invalid accelerator tcg|[Aa]ccelerator .*tcg.* (?:not|in)|No accelerator selected",
        "this QEMU can neither emulate a processor nor use KVM",
        "install a QEMU with TCG, and name it by the variable QEMU if need be",
    ),
)
_WISH = "set QEMU to the name or path of a QEMU for x86"
#: How QEMU's guest ends; the second word is for the guest's init.
_END = ("reboot=t", "vm.end=restart")


def command_line(machine: Machine, accelerator: str) -> str:
    """Return the command line of a kernel in QEMU."""
    sparing = _SPARING if accelerator == "tcg" and not machine.measured else ()
    return machine.command_line(f"console={QEMU_CONSOLE}", *_FASTER, *sparing, *_END)


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
        """Its name in reports."""
        return f"qemu/{self.accelerator}"

    def memory(self, machine: Machine) -> int:
        """Return the size of the guest's memory, in MiB: the image takes 50 twice at its start."""
        return machine.memory or MEMORY

    def report(self, fd: int) -> str:
        """Return a file that is inherited."""
        return f"/proc/self/fd/{fd}"

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """Return *kernel* decompressed, where the guest would take long for it."""
        return unpacked(kernel, folder) if self.accelerator == "tcg" else kernel

    def command(self, boot: Boot) -> Command:
        """Return the command; the report is the file that ttyS1 is written to."""
        machine = boot.machine
        return Command(
            (
                *(str(self.program), *self.options),
                *("-machine", QEMU_MACHINE, "-accel", self.accelerator),
                *("-cpu", "host" if self.accelerator == "kvm" else _EMULATED_CPU),
                *("-m", f"{self.memory(machine)}M", "-smp", str(machine.cpus)),
                *("-kernel", str(boot.kernel.path), "-initrd", str(boot.image)),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-monitor", "none", "-serial", "stdio", "-serial", f"file:{boot.report}"),
                *_disk(machine),
                *("-append", command_line(machine, self.accelerator)),
                *machine.qemu_args,
            ),
            # Where it keeps what the guest writes to a disk.
            (*self.environment, *((("TMPDIR", str(boot.scratch)),) if machine.disk else ())),
            signs=SIGNS,
        )

    def printable(self, boot: Boot) -> str:
        """Return the command for a shell."""
        return f"{self.command(boot)} </dev/null"


def _disk(machine: Machine) -> tuple[str, ...]:
    if machine.disk is None:
        return ()
    file = str(machine.disk).replace(",", ",,")
    drive = f"file={file},format=raw,if=none,id=root,snapshot=on"
    return ("-drive", drive, "-device", "virtio-blk-pci,drive=root")


def _unpacked(root: Path) -> Qemu:
    """The QEMU in *root*, packages unpacked there, told where its parts lie."""
    folders = [path for top in ("lib", "usr/lib") for path in root.glob(f"{top}/**/*.so.*")]
    libraries = sorted({str(path.parent) for path in folders})
    modules = next(iter(root.glob("usr/lib/*/qemu")), root)
    options = []
    for folder in ("usr/share/qemu", "usr/share/seabios"):
        options += ["-L", str(root / folder)]
    environment = (
        ("LD_LIBRARY_PATH", ":".join(libraries)),
        ("QEMU_MODULE_DIR", str(modules)),
    )
    return Qemu(root / "usr/bin" / _PROGRAM, tuple(options), environment)


def _check(qemu: Qemu) -> None:
    """Raise Problem when the program cannot even tell its version."""
    done = output([qemu.program, "--version"], dict(qemu.environment))
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Problem(f"the {_PACKAGE} package does not run here: {words}")


def _fetch() -> Qemu:
    """QEMU from the machine's own distribution, unpacked in the cache."""
    name, codename = apt.distribution()

    def make(draft: Path) -> None:
        state = apt.Apt("own", apt.own_sites())
        state.update()
        packages = state.missing(_PACKAGE)
        if not packages:
            raise Problem(f"{_PACKAGE} is installed, but {_PROGRAM} is not on PATH")
        state.unpack(packages, draft, "QEMU")
        _check(_unpacked(draft))

    root = paths.cache() / "qemu" / f"{name}-{codename}"
    with paths.locked("qemu"):
        return _unpacked(paths.entry(root, make))


def find() -> Qemu:
    """Return a QEMU: $QEMU, an installed one, or the distribution's in the cache.

    :raises Problem: it can neither be found nor fetched.
    """
    wish = os.environ.get("QEMU", "")
    for name in (wish,) if wish else (_PROGRAM, QEMU_KVM):
        if program := shutil.which(name):
            return Qemu(Path(program))
    if wish:
        raise Problem(f"QEMU={wish}: no such program\nhint: {_WISH}, or leave it unset")
    none = f"no {_PROGRAM} on PATH, and no {QEMU_KVM}"
    if not apt.own_sites():
        raise Problem(f"{none}\nhint: install QEMU for x86, or {_WISH}")
    try:
        return _fetch()
    except Problem as problem:
        raise Problem(f"{none}: {problem.what}\nhint: install {_PACKAGE}, or {_WISH}") from None
