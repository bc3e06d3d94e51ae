# SPDX-License-Identifier: GPL-2.0-only
"""From what the command line names to a kernel, built when asked, and what it is to boot in."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from vm.backend import qemu, virtme_ng
from vm.backend.base import Backend, Qemu, Uml
from vm.errors import Exit, Problem
from vm.kernel import build, debian, installed, tree
from vm.kernel.image import Kernel, Kind, identify

#: What a source without a configuration is built for, where the backend tells.
_ARCHITECTURES = {"uml": "um", "qemu": "x86", "virtme-ng": "x86"}


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
    _require_fit(kernel.kind is Kind.UML, backend, f"{kernel.origin} is a {kernel.kind.value}")
    if kernel.kind is Kind.UML:
        return kernel, Uml()
    return kernel, _emulator(qemu.find(), kernel, backend)


def _emulator(program: Qemu, kernel: Kernel, backend: str) -> Backend:
    """What boots a kernel for real hardware."""
    found = qemu.accelerated(program, kernel)
    return virtme_ng.find(found) if backend == "virtme-ng" else found


def _default(backend: str) -> tuple[Kernel, Backend]:
    """The newest packaged kernel that has the feature, as User-Mode Linux where QEMU fails."""
    if backend != "uml":
        try:
            program = qemu.find()
        except Problem as problem:
            if backend != "auto":
                raise
            print(f"User-Mode Linux instead of QEMU: {problem}", file=sys.stderr)
        else:
            kernel = debian.get(debian.Spec())
            return kernel, _emulator(program, kernel, backend)
    return debian.get(debian.Spec(flavour=debian.UML)), Uml()


def _of_file(path: Path) -> Kernel:
    """The kernel in the file *path*, with what there is about it where it lies."""
    kernel = identify(path)
    found = tree.around(kernel.path)
    return installed.with_modules(kernel) if found is None else tree.placed(kernel, found)


def _of_tree(folder: Path, backend: str, building: Building | None) -> Kernel:
    debug = building is not None and building.debug
    default = "um" if os.environ.get("ARCH") == "um" else "x86"
    found = tree.find(folder, _ARCHITECTURES.get(backend, default), debug)
    is_uml = found.arch == "um"
    kind = "a User-Mode Linux" if is_uml else "an x86"
    _require_fit(is_uml, backend, f"{found.objects}: configured as {kind}")
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


def _require_fit(is_uml: bool, backend: str, what: str) -> None:
    """Raise Problem when the user's choice of backend does not fit the kernel, *what* in words."""
    if backend != "auto" and (backend == "uml") is not is_uml:
        fits = "uml" if is_uml else "qemu or virtme-ng"
        raise Problem(f"{what} kernel: it runs with --backend {fits}, not {backend}", Exit.USAGE)
