# SPDX-License-Identifier: GPL-2.0-only
"""From what --kernel names to a source: what the kernel is for, before it is fetched or built."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vm.arch import ARCHITECTURES, UM, X86_64, Arch
from vm.errors import Exit, Problem
from vm.kernel import build, debian, installed, tree
from vm.kernel.image import Kernel, Kind, identify
from vm.terminal import say


@dataclass(frozen=True)
class Building:
    """What --build asks for."""

    #: File for make's output.
    log: Path
    #: With the debugging options.
    debug: bool = False
    #: Only print the command.
    dry_run: bool = False


@dataclass(frozen=True)
class Source:
    """A kernel that can be had."""

    arch: Arch
    #: For messages, before the word "kernel".
    text: str
    #: Fetch or build it, if need be. Raises Problem when that fails.
    obtain: Callable[[], Kernel]


def find(text: str, wanted: Arch, building: Building | None) -> Source:
    """Return the source that *text* names: nothing is fetched or built.

    :param wanted: what a kernel's source without a `.config` is, or would be, built for.
    :raises Problem: there is no such source.
    """
    path = Path(os.path.expanduser(text))
    if building is not None and not (text and path.is_dir()):
        raise Problem(
            f"--build: {text or 'no --kernel given'}: give a build tree (--kernel DIR)", Exit.USAGE
        )
    if debian.is_spec(text):
        return package(debian.parse(text), text)
    if text == installed.NAME:
        return _image(installed.kernel())
    return _tree(path, wanted, building) if path.is_dir() else _image(_of_file(path))


def package(spec: debian.Spec, text: str = "the newest packaged kernel") -> Source:
    """Return the source for a package of Debian's."""
    arch = UM if spec.flavour == UM.flavour else X86_64
    return Source(arch, f"{text} is {arch.text}", partial(debian.get, spec))


def _image(kernel: Kernel) -> Source:
    arch = UM if kernel.kind is Kind.UML else X86_64
    return Source(arch, f"{kernel.origin} is a {kernel.kind.value}", lambda: kernel)


def _of_file(path: Path) -> Kernel:
    """Return the kernel in the file *path*, with what there is about it where it lies."""
    kernel = identify(path)
    found = tree.around(kernel.path)
    return installed.with_modules(kernel) if found is None else tree.placed(kernel, found)


def _tree(folder: Path, wanted: Arch, building: Building | None) -> Source:
    found = tree.find(folder, wanted.name, building is not None and building.debug)
    arch = ARCHITECTURES[found.arch]
    text = f"{found.objects}: configured as {arch.text}"
    return Source(arch, text, partial(_built, found, building))


def _built(found: tree.Tree, building: Building | None) -> Kernel:
    if building is None:
        kernel = tree.kernel(found)
        if lacking := tree.lacking(found):
            say(
                f"{found.objects}: built without {', '.join(lacking)}: cases may be skipped"
                " (--build adds what they need)"
            )
        return kernel
    if building.dry_run:
        print(build.described(found))
        return tree.planned(found)
    build.build(found, building.debug, building.log)
    return tree.kernel(found)
