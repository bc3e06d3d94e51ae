# SPDX-License-Identifier: GPL-2.0-only
"""From what --kernel names to a source: what the kernel is for, before it is fetched or built."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.utils.probes import flag
from vm.arch import ARCHITECTURES, Arch
from vm.errors import Exit, Problem
from vm.kernel import build, debian, files, installed, tree
from vm.kernel.image import Kernel
from vm.kernel.scheme import Scheme, Source
from vm.terminal import say

#: Where packaged kernels come from, by what their names begin with; the default kernel is one of
#: the first scheme's.
SCHEMES = {scheme.name: scheme for scheme in (debian.SCHEME, files.SCHEME)}


@dataclass(frozen=True)
class Building:
    """What --build asks for."""

    #: File for make's output.
    log: Path
    #: With the debugging options.
    debug: bool = False
    #: The user's fragments of a `.config`.
    fragments: tuple[Path, ...] = ()
    #: Only print the command.
    dry_run: bool = False
    #: Files of the source to count the lines of that run, in a second tree; empty for none.
    counted: tuple[str, ...] = ()


_GIVE = "give one with --kernel: an image, a build tree, a package file or its http address"


def scheme_of(text: str) -> Scheme | None:
    """Return the scheme that *text* is of, None for a path."""
    return next((scheme for scheme in SCHEMES.values() if scheme.names(text)), None)


def newest(arch: Arch) -> Source:
    """Return the newest packaged kernel that has the flag; where this machine has no place to look
    for one, the running kernel if that has it.

    :raises Problem: there is neither.
    """
    for scheme in SCHEMES.values():
        if found := scheme.newest(arch):
            return found
    without = "no Debian package source on this machine, and no kernel in the cache"
    if arch.board is None or not arch.processor.native:
        raise Problem(f"{without}\nhint: {_GIVE}")
    answer = flag.probe()
    if answer.support is not flag.Support.PRESENT:
        raise Problem(f"{without}; as to the running one: {answer.reason}\nhint: {_GIVE}")
    say(f"the running kernel's image: {without}")
    return files.source(installed.kernel)


def obtainable(place: str) -> list[str]:
    """Return what *place* has: one of the first scheme's, or SCHEME:PLACE."""
    name, colon, rest = place.partition(":")
    places = {scheme.name: scheme.obtainable for scheme in SCHEMES.values() if scheme.obtainable}
    found = places.get(name) if colon else next(iter(places.values()))
    if found is None:
        raise Problem(
            f"{place}: no such source of kernels\nhint: there is {', '.join(places)}", Exit.USAGE
        )
    return found(rest if colon else place)


def find(text: str, wanted: Arch, building: Building | None) -> Source:
    """Return the source that *text* names: nothing is fetched or built, but for the package file
    at an address.

    :param wanted: what a kernel's source without a `.config` is, or would be, built for.
    :raises Problem: there is no such source.
    """
    path = Path(os.path.expanduser(text))
    if building is not None and not path.is_dir():
        raise Problem(
            f"--build: {text}: not a build tree\nhint: --kernel DIR, or nothing in the tree itself",
            Exit.USAGE,
        )
    if building is None and (scheme := scheme_of(text)):
        return scheme.find(text)
    if text == installed.NAME:
        return files.source(installed.kernel)
    if path.is_dir():
        return _tree(path, wanted, building)
    return files.source(partial(_of_file, path))


def _of_file(path: Path) -> Kernel:
    """Return the kernel in the file *path*, with what there is about it where it lies."""
    kernel = files.image(path)
    found = tree.around(path.resolve())
    return installed.with_modules(kernel, path) if found is None else tree.placed(kernel, found)


def _tree(folder: Path, wanted: Arch, building: Building | None) -> Source:
    found = tree.find(folder, wanted.name, building is not None and building.debug)
    arch = ARCHITECTURES[found.arch]
    text = f"{found.objects}: configured as {arch.text}"
    if building is not None and building.counted:
        found = tree.second(found, building.debug)
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
        print(build.described(found, building.counted))
        return tree.planned(found)
    build.build(found, building.debug, building.log, building.fragments, building.counted)
    return tree.kernel(found)
