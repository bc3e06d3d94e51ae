# SPDX-License-Identifier: GPL-2.0-only
"""The QEMU backend: its command line; and a QEMU, found or unpacked from the distribution's package
into the cache."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.arch import ARCHITECTURES, QEMU_KVM, Arch, Board
from vm.backend.base import MEMORY, Boot, Command, Machine, Sign
from vm.distro import apt
from vm.errors import Problem
from vm.kernel.decompress import unpacked
from vm.kernel.image import Kernel
from vm.process import output

#: Self-tests of the kernel's cryptography take a second under emulation.
_FASTER = "cryptomgr.notests"
#: What the kernel does beside its work costs an emulated processor a fifth of the time of a case:
#: setting the timer anew for each tick, accounting of memory to groups, DAMON, and the clearing of
#: pages that are filled at once.
_SPARING = (
    *("highres=off", "nohz=off", "cgroup_disable=memory"),
    *("damon_stat.enabled=0", "init_on_alloc=0"),
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
#: How QEMU's guest ends: for its init.
_END = "vm.end=restart"


@dataclass(frozen=True)
class Qemu:
    """A QEMU that can be run: installed, or unpacked into the cache."""

    program: Path
    #: What it emulates, which has a board.
    arch: Arch
    options: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    #: "tcg" or "kvm".
    accelerator: str = "tcg"

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"qemu/{self.accelerator}"

    @property
    def board(self) -> Board:
        """The machine it makes."""
        assert self.arch.board is not None
        return self.arch.board

    def command_line(self, machine: Machine) -> str:
        """Return the kernel's command line."""
        emulated = self.accelerator == "tcg" and not machine.measured
        sparing = (*_SPARING, f"thp_anon={self.board.pieces}:always") if emulated else ()
        words = (_FASTER, *sparing, *self.board.words, _END)
        return machine.command_line(f"console={self.board.console}", self.arch.report, *words)

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
        """Return the command; the report is the file that the second line is written to."""
        machine, board = boot.machine, self.board
        report = boot.report.replace(",", ",,")
        return Command(
            (
                *(str(self.program), *self.options),
                *("-machine", board.machine, "-accel", self.accelerator),
                *("-cpu", "host" if self.accelerator == "kvm" else board.cpu),
                *("-m", f"{self.memory(machine)}M", "-smp", str(machine.cpus)),
                *("-kernel", str(boot.kernel.path), "-initrd", str(boot.image)),
                *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
                *("-monitor", "none", "-serial", "stdio"),
                *(word.format(report) for word in board.report_line),
                *_disk(machine),
                *("-append", self.command_line(machine)),
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


def _unpacked(root: Path, arch: Arch) -> Qemu:
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
    return Qemu(root / "usr/bin" / arch.processor.qemu, arch, tuple(options), environment)


def _check(qemu: Qemu) -> None:
    """Raise Problem when the program cannot even tell its version."""
    done = output([qemu.program, "--version"], dict(qemu.environment))
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        package = qemu.arch.processor.qemu_package
        raise Problem(f"the {package} package does not run here: {words}")


def _fetch(arch: Arch) -> Qemu:
    """QEMU from the machine's own distribution, unpacked in the cache."""
    name, codename = apt.distribution()
    package = arch.processor.qemu_package

    def make(draft: Path) -> None:
        state = apt.Apt("own", apt.own_sites())
        state.update()
        packages = state.missing(package)
        if not packages:
            raise Problem(f"{package} is installed, but {arch.processor.qemu} is not on PATH")
        state.unpack(packages, draft, f"QEMU for {arch.name}")
        _check(_unpacked(draft, arch))

    root = paths.cache() / "qemu" / f"{name}-{codename}" / package
    with paths.locked("qemu"):
        return _unpacked(paths.entry(root, make), arch)


def _wish(arch: Arch) -> str:
    """Return $QEMU, empty where that is by its name for another processor than that of *arch*."""
    wish = os.environ.get("QEMU", "")
    others = {one.processor.qemu for one in ARCHITECTURES.values()} - {arch.processor.qemu}
    return "" if Path(wish).name in others else wish


def find(arch: Arch) -> Qemu:
    """Return a QEMU for *arch*: $QEMU, an installed one, or the distribution's in the cache.

    :raises Problem: it can neither be found nor fetched.
    """
    program, package = arch.processor.qemu, arch.processor.qemu_package
    wish = _wish(arch)
    places = (program, *([QEMU_KVM] if arch.processor.native else []))
    for name in (wish,) if wish else places:
        if found := shutil.which(name):
            return Qemu(Path(found), arch)
    hint = f"set QEMU to the name or path of a QEMU for {arch.name}"
    if wish:
        raise Problem(f"QEMU={wish}: no such program\nhint: {hint}, or leave it unset")
    none = f"no {' on PATH, and no '.join(places)}"
    if not apt.own_sites():
        raise Problem(f"{none}\nhint: install QEMU for {arch.name}, or {hint}")
    try:
        return _fetch(arch)
    except Problem as problem:
        raise Problem(f"{none}: {problem.what}\nhint: install {package}, or {hint}") from None
