# SPDX-License-Identifier: GPL-2.0-only
"""From what --kernel and --backend name to a kernel and what boots it.

First whether the two fit, then whether this machine has what the backend runs in: only then is the
kernel fetched or built.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from vm.arch import ARCHITECTURES, ARM64, UM, X86_64, Arch, native
from vm.backend import kvm, qemu, uml, virtme_ng
from vm.backend.base import Backend, Machine
from vm.backend.uml import Uml
from vm.errors import Exit, Problem
from vm.kernel import source
from vm.kernel.image import Kernel
from vm.kernel.scheme import Source
from vm.kernel.source import Building
from vm.terminal import say


@dataclass(frozen=True)
class Choice:
    """A backend as the command line names it."""

    #: What it boots.
    architectures: tuple[Arch, ...]
    #: Find what it runs in; the backend is made once there is a kernel to try it with, if that may
    #: be tried. Raises Problem when this machine lacks it.
    find: Callable[[Arch], Callable[[Kernel, bool], Backend]]
    #: Tell what of a machine it cannot be, empty for nothing.
    lacks: Callable[[Machine], str] = lambda _: ""


def _qemu(arch: Arch) -> Callable[[Kernel, bool], Backend]:
    program = qemu.find(arch)
    return lambda kernel, trial: kvm.accelerated(program, kernel, trial)


def _virtme_ng(arch: Arch) -> Callable[[Kernel, bool], Backend]:
    program = qemu.find(arch)
    return lambda kernel, trial: virtme_ng.find(kvm.accelerated(program, kernel, trial))


def _uml(arch: Arch) -> Callable[[Kernel, bool], Backend]:
    if not arch.processor.native:
        raise Problem(
            f"User-Mode Linux is a program for {arch.processor.machine}, and this machine is"
            f" {os.uname().machine}\nhint: take a kernel for QEMU"
        )
    return lambda *_: Uml()


#: By the names for --backend; where several fit a kernel, the first is the default.
BACKENDS = {
    "qemu": Choice((X86_64, ARM64), _qemu),
    "uml": Choice((UM,), _uml, uml.lacks),
    "virtme-ng": Choice((X86_64,), _virtme_ng),
}


_ANY = Machine()


def choose(
    text: str,
    backend: str,
    building: Building | None,
    stack: ExitStack,
    machine: Machine = _ANY,
    trial: bool = True,
) -> tuple[Kernel, Backend]:
    """Return the kernel that *text* names (empty: the default), and what to boot it in.

    :param stack: holds the kernel's folder.
    :param machine: what guests are to be.
    :param trial: whether the kernel may be booted to see whether KVM works.
    :raises Problem: there is no such kernel, *backend* does not fit it, or this machine lacks it.
    """
    if text or building is not None:
        wanted = ARCHITECTURES.get(os.environ.get("ARCH", ""), native())
        found = source.find(text, _bootable(wanted, backend), building)
    else:
        found = _default(backend)
    choice = BACKENDS[_fitting(found, backend)]
    if lacking := choice.lacks(machine):
        raise Problem(f"{found.text} kernel: {lacking}", Exit.USAGE)
    made = choice.find(found.arch)
    kernel = found.obtain(stack)
    return kernel, made(kernel, trial)


def _bootable(wanted: Arch, backend: str) -> Arch:
    """Return *wanted*, or what *backend* boots instead."""
    if backend == "auto" or wanted in BACKENDS[backend].architectures:
        return wanted
    return BACKENDS[backend].architectures[0]


def _default(backend: str) -> Source:
    """Return the newest packaged kernel with the flag, as User-Mode Linux where QEMU fails."""
    if backend == "auto":
        try:
            qemu.find(native())
        except Problem as problem:
            say(f"User-Mode Linux instead of QEMU: {problem.what}")
            backend = "uml"
    return source.newest(_bootable(native(), backend))


def _fitting(found: Source, backend: str) -> str:
    """Return the name of the backend for *found*.

    :raises Problem: *backend* does not fit it.
    """
    fitting = [name for name, choice in BACKENDS.items() if found.arch in choice.architectures]
    if backend == "auto":
        return fitting[0]
    if backend not in fitting:
        raise Problem(
            f"{found.text} kernel: not for --backend {backend}\n"
            f"hint: it runs with --backend {' or '.join(fitting)}",
            Exit.USAGE,
        )
    return backend
