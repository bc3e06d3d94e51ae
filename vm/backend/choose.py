# SPDX-License-Identifier: GPL-2.0-only
"""From what the command line names to a kernel, built when asked, and what it is to boot in."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vm.arch import ARCHITECTURES, UM, X86_64, Arch
from vm.backend import kvm, qemu, virtme_ng
from vm.backend.base import Backend
from vm.backend.qemu import Qemu
from vm.backend.uml import Uml
from vm.errors import Exit, Problem
from vm.kernel import build, debian, installed, tree
from vm.kernel.image import Kernel, Kind, identify


@dataclass(frozen=True)
class Choice:
    """A backend as the command line names it."""

    #: What it boots, and what a source without a `.config` is built for.
    arch: Arch
    #: Find what it runs in. Raises Problem when this machine lacks it.
    find: Callable[[Kernel], Backend]


def _qemu(kernel: Kernel) -> Qemu:
    return kvm.accelerated(qemu.find(), kernel)


#: By the names for --backend; where several fit a kernel, the first is the default.
BACKENDS = {
    "qemu": Choice(X86_64, _qemu),
    "uml": Choice(UM, lambda _: Uml()),
    "virtme-ng": Choice(X86_64, lambda kernel: virtme_ng.find(_qemu(kernel))),
}


@dataclass(frozen=True)
class Building:
    """What --build asks for."""

    #: File for make's output.
    log: Path
    #: With the debugging options.
    debug: bool = False
    #: Only print the command.
    dry_run: bool = False


def choose(text: str, backend: str, building: Building | None) -> tuple[Kernel, Backend]:
    """The kernel that *text* names (empty: the default), and what to boot it in.

    Raises Problem when there is no such kernel, or *backend* does not fit it.
    """
    path = Path(text).expanduser()
    if building is not None and not (text and path.is_dir()):
        raise Problem(
            f"--build: {text or 'no --kernel given'}: give a build tree (--kernel DIR)", Exit.USAGE
        )
    if not text:
        return _default(backend)
    if debian.is_spec(text):
        kernel = debian.get(debian.parse(text))
    elif text == installed.NAME:
        kernel = installed.kernel()
    elif path.is_dir():
        kernel = _of_tree(path, backend, building)
    else:
        kernel = _of_file(path)
    arch = UM if kernel.kind is Kind.UML else X86_64
    name = _fitting(arch, backend, f"{kernel.origin} is a {kernel.kind.value}")
    return kernel, BACKENDS[name].find(kernel)


def _default(backend: str) -> tuple[Kernel, Backend]:
    """The newest packaged kernel that has the feature, as User-Mode Linux where QEMU fails."""
    if backend != "uml":
        try:
            qemu.find()
        except Problem as problem:
            if backend != "auto":
                raise
            print(f"User-Mode Linux instead of QEMU: {problem}", file=sys.stderr)
        else:
            kernel = debian.get(debian.Spec())
            return kernel, BACKENDS["qemu" if backend == "auto" else backend].find(kernel)
    kernel = debian.get(debian.Spec(flavour=debian.UML))
    return kernel, BACKENDS["uml"].find(kernel)


def _of_file(path: Path) -> Kernel:
    """The kernel in the file *path*, with what there is about it where it lies."""
    kernel = identify(path)
    found = tree.around(kernel.path)
    return installed.with_modules(kernel) if found is None else tree.placed(kernel, found)


def _of_tree(folder: Path, backend: str, building: Building | None) -> Kernel:
    debug = building is not None and building.debug
    wanted = UM if os.environ.get("ARCH") == UM.name else X86_64
    if backend != "auto":
        wanted = BACKENDS[backend].arch
    found = tree.find(folder, wanted.name, debug)
    arch = ARCHITECTURES[found.arch]
    _fitting(arch, backend, f"{found.objects}: configured as {arch.text}")
    if building is not None:
        if building.dry_run:
            print(build.described(found))
        else:
            build.build(found, debug, building.log)
    kernel = tree.kernel(found)
    if building is None and (lacking := tree.lacking(found)):
        print(
            f"{found.objects}: built without {', '.join(lacking)}: cases may be skipped"
            " (--build adds what they need)"
        )
    return kernel


def _fitting(arch: Arch, backend: str, what: str) -> str:
    """Return the name of the backend for a kernel of *arch*, *what* in words.

    :raises Problem: *backend* does not fit it.
    """
    fitting = [name for name, choice in BACKENDS.items() if choice.arch is arch]
    if backend == "auto":
        return fitting[0]
    if backend not in fitting:
        raise Problem(
            f"{what} kernel: it runs with --backend {' or '.join(fitting)}, not {backend}",
            Exit.USAGE,
        )
    return backend
