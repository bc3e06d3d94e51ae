# SPDX-License-Identifier: GPL-2.0-only
"""The virtme-ng backend: the `vng` program makes the machine; the guest is that of the others.

vng boots a kernel in QEMU as its users do, with the devices and the settings that theirs is tested
with (~/.config/virtme-ng included). What it would put into the guest, a copy-on-write view of the
host's own file system, is left out: the guest takes our initramfs instead. So this backend gives
what the others do, and needs none of what vng asks of a host or of a kernel for that view:
virtiofsd, udev, busybox, decompressed modules, CONFIG_VIRTIO_FS or CONFIG_9P_FS.

vng's own exit status and its files for a command's output are not used: see run/guest.py.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

from vm.backend.base import Boot, Command, Machine
from vm.backend.qemu import SIGNS, Qemu
from vm.errors import Problem
from vm.initramfs import python
from vm.kernel.image import Kernel
from vm.process import output
from vm.terminal import complain

_PROGRAM = "vng"
#: The versions this was tried with; others most likely do.
_TRIED = ((1, 34), (1, 42))


@dataclass(frozen=True)
class Vng:
    """A vng that can be run, and the QEMU that it is to run."""

    program: Path
    qemu: Qemu

    @property
    def name(self) -> str:
        """Its name in reports."""
        return f"virtme-ng/{self.qemu.accelerator}"

    def memory(self, machine: Machine) -> int:
        """Return the size of the guest's memory, in MiB."""
        return self.qemu.memory(machine)

    def report(self, fd: int) -> str:
        """Return a file that is opened through /proc: vng passes no descriptors on."""
        return f"/proc/{os.getpid()}/fd/{fd}"

    def prepared(self, kernel: Kernel, folder: Path) -> Kernel:
        """Return *kernel* itself: this backend needs no preparation."""
        return kernel

    def command(self, boot: Boot) -> Command:
        """Return the command; the report is the file that the second line is written to.

        The only folders of the host's in the guest's reach are the scratch folder, and vng's tools.
        """
        machine = boot.machine
        options = [*self.qemu.options, "-no-reboot", "-initrd", str(boot.image)]
        options += ["-serial", f"file:{boot.report}", *machine.qemu_args]
        # vng puts its arguments together for a shell and quotes only some of them.
        words = (
            *(
                "--run",
                shlex.quote(str(boot.kernel.path)),
                "--root",
                shlex.quote(str(boot.scratch)),
            ),
            *("--qemu", shlex.quote(str(self.qemu.program))),
            *("--skip-modules", "--disable-microvm", "--disable-monitor", "--force-9p"),
            *(("--disable-kvm",) if self.qemu.accelerator == "tcg" else ()),
            *("--memory", f"{self.memory(machine)}M", "--cpus", str(machine.cpus)),
            *("--append", shlex.join(self.qemu.command_line(machine).split())),
            f"--qemu-opts={shlex.join(options)}",
        )
        path = os.pathsep.join([str(self.program.parent), os.environ.get("PATH", os.defpath)])
        return Command(
            (str(self.program), *words),
            (("PATH", path), *self.qemu.environment),
            signs=SIGNS,
        )

    def printable(self, boot: Boot) -> str:
        """Return the command for a shell."""
        return f"{self.command(boot)} </dev/null"


def find(qemu: Qemu) -> Vng:
    """Return $VNG, the one on PATH, or one in a private virtual environment, made when need be.

    :raises Problem: it can neither be found nor installed, or *qemu* cannot do what vng asks of it.
    """
    wish = os.environ.get("VNG", "")
    found = shutil.which(wish or _PROGRAM)
    if wish and not found:
        raise Problem(f"VNG={wish}: no such program\nhint: name another by VNG, or leave it unset")
    program = Path(found) if found else _private()
    _warn_of_version(program)
    _require_9p(qemu)
    return Vng(program, qemu)


def _private() -> Path:
    wanted = python.requirements("virtme-ng")
    try:
        return python.environment(wanted) / "bin" / _PROGRAM
    except Problem as problem:
        raise Problem(
            f"no {_PROGRAM} on PATH, and it cannot be installed: {problem.what}\n"
            "hint: install virtme-ng, or use --backend qemu"
        ) from None


def _warn_of_version(program: Path) -> None:
    done = output([program, "--version"])
    text = (done.stdout + done.stderr).strip()
    match = re.search(r"(\d+)\.(\d+)", text)
    if done.returncode or match is None:
        last = (text.splitlines() or ["no message"])[-1]
        raise Problem(
            f"{program} does not run here: {last}\nhint: name another by VNG, or use --backend qemu"
        )
    version = (int(match[1]), int(match[2]))
    if not _TRIED[0] <= version <= _TRIED[1]:
        low, high = (".".join(map(str, numbers)) for numbers in _TRIED)
        complain(f"virtme-ng {match[0]} was not tried here, {low} to {high} were; going on with it")


def _require_9p(qemu: Qemu) -> None:
    """vng hands folders to the guest, if only empty ones, through a device not all QEMUs have."""
    done = output([qemu.program, "-device", "virtio-9p-pci,help"], dict(qemu.environment))
    if done.returncode:
        raise Problem(
            f"{qemu.program} has no virtio-9p, which vng asks of it\n"
            "hint: set QEMU to one that has it, or use --backend qemu, which needs none"
        )
