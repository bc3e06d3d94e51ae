# SPDX-License-Identifier: GPL-2.0-only
"""From a kernel to its guests: what every verb that boots one does."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from vm import paths
from vm.backend.base import Backend, Boot, Command, Machine
from vm.kernel.image import Kernel
from vm.run.guest import Guest
from vm.run.stream import Records


class Prepared:
    """A kernel in the form that boots fastest, held so that nobody removes it."""

    def __init__(self, kernel: Kernel, backend: Backend, stack: ExitStack) -> None:
        """Hold and prepare *kernel* until *stack* is left, which kills its guests too."""
        if kernel.home is not None:
            stack.enter_context(paths.using(kernel.home))
        #: For the images of its guests; it goes with the stack.
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-")))
        self._kernel = backend.prepared(kernel, self.folder)
        self._backend = backend
        self._stack = stack
        self._guests = 0

    def start(
        self,
        image: Path,
        machine: Machine,
        nonce: str,
        console: Path,
        show: Callable[[str], None],
        keyboard: int = subprocess.DEVNULL,
    ) -> Guest:
        """Start a guest with the initramfs *image*; the other arguments are as Guest has them."""
        self._guests += 1
        scratch = self.folder / f"guest-{self._guests}"
        scratch.mkdir()

        def command(fd: int) -> Command:
            report = self._backend.report(fd)
            return self._backend.command(Boot(self._kernel, image, report, machine, scratch))

        return Guest(command, Records(nonce), console, show, self._stack, keyboard)
