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

from vm.arch import UM, X86_64, Arch
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
    arch: Arch
    #: Find what it runs in; the backend is made once there is a kernel to try it with, if that may
    #: be tried. Raises Problem when this machine lacks it.
    find: Callable[[], Callable[[Kernel, bool], Backend]]
    #: Tell what of a machine it cannot be, empty for nothing.
    lacks: Callable[[Machine], str] = lambda _: ""


def _qemu() -> Callable[[Kernel, bool], Backend]:
    program = qemu.find()
    return lambda kernel, trial: kvm.accelerated(program, kernel, trial)


def _virtme_ng() -> Callable[[Kernel, bool], Backend]:
    program = qemu.find()
    return lambda kernel, trial: virtme_ng.find(kvm.accelerated(program, kernel, trial))


#: By the names for --backend; where several fit a kernel, the first is the default.
BACKENDS = {
    "qemu": Choice(X86_64, _qemu),
    "uml": Choice(UM, lambda: lambda *_: Uml(), uml.lacks),
    "virtme-ng": Choice(X86_64, _virtme_ng),
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
        wanted = UM if os.environ.get("ARCH") == UM.name else X86_64
        if backend != "auto":
            wanted = BACKENDS[backend].arch
        found = source.find(text, wanted, building)
    else:
        found = _default(backend)
    choice = BACKENDS[_fitting(found, backend)]
    if lacking := choice.lacks(machine):
        raise Problem(f"{found.text} kernel: {lacking}", Exit.USAGE)
    made = choice.find()
    kernel = found.obtain(stack)
    return kernel, made(kernel, trial)


def _default(backend: str) -> Source:
    """Return the newest packaged kernel with the flag, as User-Mode Linux where QEMU fails."""
    if backend == "auto":
        try:
            qemu.find()
        except Problem as problem:
            say(f"User-Mode Linux instead of QEMU: {problem.what}")
            backend = "uml"
    arch = X86_64 if backend == "auto" else BACKENDS[backend].arch
    return source.newest(arch)


def _fitting(found: Source, backend: str) -> str:
    """Return the name of the backend for *found*.

    :raises Problem: *backend* does not fit it.
    """
    fitting = [name for name, choice in BACKENDS.items() if choice.arch is found.arch]
    if backend == "auto":
        return fitting[0]
    if backend not in fitting:
        raise Problem(
            f"{found.text} kernel: not for --backend {backend}\n"
            f"hint: it runs with --backend {' or '.join(fitting)}",
            Exit.USAGE,
        )
    return backend
