# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel to its guests: what every verb that boots one does, and what a dry run prints."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path

from vm.arch import Processor
from vm.backend.base import Backend, Boot, Command, Machine
from vm.errors import Exit, Problem
from vm.guest.protocol import Job
from vm.initramfs import foreign, python, rootfs
from vm.initramfs.python import Runtime
from vm.kernel import modules
from vm.kernel.image import Kernel
from vm.run import plan, system
from vm.run.guest import Guest
from vm.run.plan import Options
from vm.run.stream import Records
from vm.terminal import complain


def _require(kernel: Kernel, processor: Processor, options: Options) -> None:
    """Raise Problem where *kernel* does not run the programs that *options* ask for."""
    runs = [one.debian for one in kernel.arch.processors]
    if processor.debian not in runs:
        raise Problem(
            f"--userland {processor.debian}: {kernel.origin} runs those for {' or '.join(runs)}\n"
            "hint: leave it out, or name another kernel",
            Exit.USAGE,
        )
    if options.system is not None and not processor.native:
        raise Problem(
            f"--system: it is for this machine's own processor, and {kernel.origin} is to run"
            f" programs for {processor.debian}\nhint: leave one of the two out",
            Exit.USAGE,
        )


class Boots:
    """The boots of one kernel: the images of its guests, and the commands that start them.

    The order is prepare(), image(), start(); a dry run may leave out the first two.
    """

    def __init__(self, kernel: Kernel, backend: Backend, options: Options) -> None:
        """Boot *kernel*, whose folder is held, in *backend*.

        :raises Problem: it runs no programs such as *options* ask for.
        """
        self._kernel, self._backend, self._options = kernel, backend, options
        #: What the guest's programs are for.
        self.processor = options.userland or kernel.arch.processor
        _require(kernel, self.processor, options)
        own = kernel.arch.processor
        #: The backend's name, the kernel's processor where that is not this machine's, and what
        #: programs the guest has where they are not for it.
        self.where = backend.name
        if not own.native:
            self.where += f" for {own.debian}"
        if self.processor is not own:
            self.where += f" with programs for {self.processor.debian}"
        self._nonce = secrets.token_hex(8)
        self._guests = self._images = 0
        self._folder: Path | None = None

    @cached_property
    def runtime(self) -> Runtime:
        """The Python of the guests. Raises Problem where it can neither be found nor fetched."""
        own = python.find(self._options.requirements)
        return own if self.processor.native else foreign.runtime(self.processor, own)

    @cached_property
    def _modules(self) -> dict[str, bytes]:
        """The modules to load in a guest, which can do without them, in the order to load them."""
        if self._kernel.modules is None:
            return {}
        needed = modules.NEEDED if self._options.system is None else system.MODULES
        try:
            return modules.collect(self._kernel.modules, needed)
        except Problem as problem:
            complain(f"no modules for this kernel: {problem}")
            return {}

    def prepare(self, folder: Path) -> None:
        """Take *folder* for the images, and for the kernel in the form that boots fastest."""
        self._folder = folder
        if self._kernel.path.exists():  # else --build is to make it
            self._kernel = self._backend.prepared(self._kernel, folder)

    def job(self, only: Sequence[str] = (), failed: int = 0) -> Job:
        """Return what pytest is to do in a guest, see plan.job()."""
        return plan.job(self.runtime, self._options, self._nonce, only, failed)

    def image(self, job: Job, *more: Path) -> Path:
        """Write an initramfs for *job*, with the archives *more*."""
        assert self._folder is not None
        self._images += 1
        ending = "" if self._images == 1 else f"-{self._images}"
        image = self._folder / f"initramfs{ending}.cpio"
        if self._options.system is None:
            rootfs.write(image, self.runtime, job, self._modules, *more)
        else:
            system.write(image, self.runtime, job, self._modules, self._options.system)
        return image

    def _boot(self, image: Path, machine: Machine, report: str) -> Boot:
        self._guests += 1
        scratch = image.with_name(f"guest-{self._guests}")
        if self._folder is not None:
            scratch.mkdir(exist_ok=True)
        return Boot(self._kernel, image, report, machine, scratch)

    def printable(self, image: Path, machine: Machine) -> str:
        """Return the command that boots the next guest, its report in a file, for a shell."""
        report = image.with_name(f"report-{self._guests + 1}.jsonl")
        return self._backend.printable(self._boot(image, machine, str(report)))

    def start(
        self,
        image: Path,
        machine: Machine,
        stack: ExitStack,
        console: Path,
        show: Callable[[str], None],
        keyboard: int = subprocess.DEVNULL,
    ) -> Guest:
        """Start a guest with the initramfs *image*; the other arguments are as Guest has them."""

        def command(fd: int) -> Command:
            return self._backend.command(self._boot(image, machine, self._backend.report(fd)))

        return Guest(command, Records(self._nonce), console, show, stack, keyboard)
