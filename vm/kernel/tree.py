# SPDX-License-Identifier: GPL-2.0-only
"""Build trees: where in a folder the kernel is, what for and with what options it was built.

A folder is either the kernel's source itself, built in place, or one that `make O=` was given.
A source without a `.config` is built elsewhere: in $KBUILD_OUTPUT when that is set, as make does,
else in a folder of the cache, so that a clean source stays clean.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from vm import paths
from vm.arch import ARCHITECTURES, ARM64, UM
from vm.errors import Exit, Problem
from vm.kernel import kconfig
from vm.kernel.image import Kernel, Kind, identify

NO_SOURCE = (
    "cannot be built, the kernel's source is not to be found\n"
    "hint: give the folder of the source: --kernel DIR"
)
#: What counts lines is a constructor of each object's, which the C library runs before User-Mode
#: Linux has a stack of its own. There lockdep notes who calls, and reads up to the next multiple of
#: THREAD_SIZE, which lies beyond the stack's end, unless there is as much on the stack before.
_PADDING = ("OPEN_TREE_NS_PADDING", "x" * (32 << 10))
_INCLUDE = re.compile(r"^include (/.+)/Makefile$", re.M)


@dataclass(frozen=True)
class Tree:
    """A folder that a kernel is built in, and the source it is built from."""

    objects: Path
    #: None when it is not to be found any more.
    source: Path | None
    #: make's ARCH, see vm/arch.py.
    arch: str
    #: Where this is a second build of a source (mirror.py): the tree that it is of.
    first: Tree | None = None

    @property
    def theirs(self) -> Path | None:
        """Somebody's own `.config`, which the options start from; None without one."""
        tree = self.first or self
        path = tree.objects / ".config"
        return path if path.exists() and not tree.ours else None

    @property
    def ours(self) -> bool:
        """Whether the folder is one of the cache's."""
        return self.objects.is_relative_to(builds())


def builds() -> Path:
    """Return where the cache keeps what --build built out of clean sources: SOURCE/ARCHITECTURE."""
    return paths.cache() / "builds"


def copies() -> Path:
    """Return where the cache keeps the copies of sources that faults are planted in."""
    return paths.cache() / "faults"


def _is_source(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("Kconfig", "Kbuild", "Makefile"))


def is_one(folder: Path) -> bool:
    """Return whether *folder* is a kernel's source, or what one is built in."""
    return (folder / ".config").exists() or _is_source(folder)


def _source_of(objects: Path) -> Path | None:
    """The source that the folder *objects* of `make O=` was made from."""
    candidates = [objects, objects / "source"]
    try:
        include = _INCLUDE.search((objects / "Makefile").read_text(errors="replace"))
    except OSError:
        include = None
    if include:
        candidates.append(Path(include[1]))
    return next((path.resolve() for path in candidates if _is_source(path)), None)


def _arch(config: Path) -> str:
    """The architecture that *config* is for. Raises Problem when guests cannot have it."""
    options = kconfig.read(config)
    for arch in ARCHITECTURES.values():
        if options.get(arch.option) == "y":
            return arch.name
    raise Problem(
        f"{config}: a kernel for none of the architectures of guests\n"
        f"hint: configure it with ARCH={' or ARCH='.join(ARCHITECTURES)}"
    )


def cached(source: Path, arch: str, debug: bool = False) -> Path:
    """Return the folder of the cache that the clean *source* is built in."""
    key = hashlib.sha256(str(source).encode()).hexdigest()[:8]
    return builds() / f"{source.name}-{key}" / (f"{arch}-debug" if debug else arch)


def find(folder: Path, arch: str, debug: bool = False) -> Tree:
    """Return the build tree *folder*.

    *arch* is what a source without a `.config` is, or would be, built for; *debug* whether with
    the debugging options. Raises Problem when the folder is no build tree.
    """
    folder = folder.resolve()
    if (folder / ".config").exists():
        return Tree(folder, _source_of(folder), _arch(folder / ".config"))
    if not _is_source(folder):
        raise Problem(
            f"{folder}: not a build tree: it has neither a .config nor the kernel's source\n"
            "hint: give an image, a source tree, the folder that make O= was given, or one of"
            " packages",
            Exit.USAGE,
        )
    if output := os.environ.get("KBUILD_OUTPUT"):
        objects = (folder / output).resolve()
        config = objects / ".config"
        return Tree(objects, folder, _arch(config) if config.exists() else arch)
    return Tree(cached(folder, arch, debug), folder, arch)


def second(first: Tree, debug: bool) -> Tree:
    """Return the tree of the cache in which *first* is built for its coverage.

    :raises Problem: its source is not to be found.
    """
    if first.source is None:
        raise Problem(f"{first.objects}: {NO_SOURCE}")
    folder = cached(first.source, first.arch, debug)
    folder = folder.with_name(f"{folder.name}-coverage")
    return Tree(folder, folder, first.arch, first)


def built(tree: Tree) -> dict[str, str]:
    """Return the options that make last built *tree* with, empty when it never did."""
    # Not .config: that may have been edited since, and --build has one of its own.
    path = tree.objects / "include/config/auto.conf"
    return kconfig.read(path) if path.is_file() else {}


def lacking(tree: Tree) -> list[str]:
    """Return the options for the cases that the kernel in *tree* was built without."""
    have = built(tree)
    return kconfig.missing(have, kconfig.read(kconfig.CASES)) if have else []


def kernel(tree: Tree) -> Kernel:
    """Return the kernel that was built in *tree*. Raises Problem when there is none."""
    for name in ARCHITECTURES[tree.arch].images:
        if (tree.objects / name).exists():
            found = identify(tree.objects / name, str((tree.first or tree).objects))
            break
    else:
        what = tree.source if tree.ours else tree.objects
        raise Problem(
            f"{what}: not built yet, no {ARCHITECTURES[tree.arch].images[0]}\n"
            "hint: run make, or give --build",
            Exit.NOT_BOOTED,
        )
    release = tree.objects / "include/config/kernel.release"
    if not found.release and release.is_file():
        found = replace(found, release=release.read_text().strip())
    if tree.first is not None and found.kind is Kind.UML:
        found = replace(found, loader_environment=(_PADDING,))
    return placed(found, tree)


def planned(tree: Tree) -> Kernel:
    """Return the kernel in *tree*, as it is or, where there is none yet, as make will name it."""
    try:
        return kernel(tree)
    except Problem as problem:
        if problem.status is not Exit.NOT_BOOTED:
            raise
    kind = {UM: Kind.UML, ARM64: Kind.IMAGE}.get(ARCHITECTURES[tree.arch], Kind.BZIMAGE)
    path = tree.objects / ARCHITECTURES[tree.arch].images[0]
    return Kernel(path, kind, "", str(tree.objects), source=tree.source)


def placed(kernel: Kernel, tree: Tree) -> Kernel:
    """Return *kernel*, an image in *tree*, with what the tree has for it."""
    modules = tree.objects if (tree.objects / "modules.order").exists() else None
    return replace(kernel, modules=modules, home=tree.objects, source=tree.source)


def around(image: Path) -> Tree | None:
    """Return the build tree that the file *image* was made in, None when there is none."""
    for name in {name for arch in ARCHITECTURES.values() for name in arch.images}:
        if image.match(name):
            objects = image.parents[name.count("/")]
            config = objects / ".config"
            if config.exists():
                return Tree(objects, _source_of(objects), _arch(config))
    return None
