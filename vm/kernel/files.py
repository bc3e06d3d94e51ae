# SPDX-License-Identifier: GPL-2.0-only
"""Kernels from files that are not plain images: packages, and images with the kernel wrapped up.

What a guest needs of them is taken out into the cache, as kernels/file/KEY, where KEY tells their
contents: a file that has changed is another kernel. Nothing is installed.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from vm import paths
from vm.distro.package_file import ENDS, is_package, unpack
from vm.errors import Exit, Problem
from vm.kernel import modules, parts, tree
from vm.kernel.image import Kernel, Kind, identify
from vm.kernel.parts import Part
from vm.kernel.scheme import Entry, Scheme, Source
from vm.kernel.unwrap import is_wrapped, unwrapped

NAME = "file"
FORM = "FILE[+FILE] (.deb, .rpm, .pkg.tar.zst, .tar: paths, http addresses or a folder of them)"
#: Digits of the key that name a kernel; its folder has all, so that a checksum is compared whole.
_DIGITS = 16
_KEY = re.compile(rf"{NAME}:([0-9a-f]{{{_DIGITS}}})")
#: In the folder of a kernel: what it was taken from.
_ORIGIN = "origin"
#: What a guest needs of a package. Modules may be below /lib or /usr/lib.
_IMAGE = r"(?:vmlinu[xz]|bzImage|Image|kernel|linux)[^/]*(?<!\.hmac)(?<!\.sig)"
_WANTED = re.compile(
    rf"(?:usr/)?(lib/(?:uml/)?modules/[^/]+/(?:{_IMAGE}|modules\.order|kernel/.*))"
    rf"|(boot/{_IMAGE})|usr/(bin/linux[^/]*)"
)
_BOTH = "give the image and the modules of one build, as IMAGE+MODULES"


def image(path: Path, origin: str = "") -> Kernel:
    """Return the kernel in the image *path*, unwrapped in the cache if need be.

    :raises Problem: there is none, for the reason that is given.
    """
    try:
        wrapped = path.is_file() and is_wrapped(path)
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    if not wrapped:
        return identify(path, origin)
    return replace(_get([Part(str(path))]), origin=origin or str(path))


def claims(text: str) -> bool:
    """Return whether *text* names files to take a kernel out of, be it right or wrong."""
    if text.startswith(f"{NAME}:") or parts.is_address(text):
        return True
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        return not tree.is_one(path) and bool(parts.packages_in(path))
    if path.exists():
        return is_package(path)
    return re.search(rf"{ENDS}(?:#|\+|$)", text) is not None


def get(text: str) -> Kernel:
    """Return the kernel in the files that *text* names, taken out into the cache.

    :raises Problem: it cannot be had.
    """
    if text.startswith(f"{NAME}:"):
        match = _KEY.fullmatch(text)
        found = sorted(_folder().glob(f"{match[1]}*")) if match else []
        if not found:
            raise Problem(
                f"{text}: not in the cache\nhint: `python3 -m vm kernels` lists what is",
                Exit.USAGE,
            )
        return _kernel(found[0])
    files = parts.parts(text)
    return replace(_get(files), origin=_named(files))


def _named(found: list[Part]) -> str:
    """What people know the files by: several by their names alone, as the paths are long."""
    return found[0].text if len(found) == 1 else "+".join(part.name for part in found)


def _folder() -> Path:
    return paths.cache() / "kernels" / NAME


def _get(found: list[Part]) -> Kernel:
    _folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=_folder()) as scratch:

        def obtain(number: int) -> Path:
            return found[number].obtain(Path(scratch, str(number)))

        # What is vouched for is fetched only if need be.
        numbers = range(len(found))
        here = {n: obtain(n) for n in numbers if not found[n].can_wait}
        sums = [part.sha256 for part in found]
        key = sums[0] if len(sums) == 1 else hashlib.sha256("+".join(sums).encode()).hexdigest()

        def make(draft: Path) -> None:
            draft.mkdir()
            for n in numbers:
                _take(found[n], here[n] if n in here else obtain(n), draft)
            origin = _named(found)
            (draft / _ORIGIN).write_text(origin)
            _check(draft, origin)

        with paths.locked("kernels"):
            return _kernel(paths.entry(_folder() / key, make))


def _take(part: Part, path: Path, draft: Path) -> None:
    """Put what a guest needs of *part*, which is the file *path*, into the folder *draft*."""

    def place(name: str) -> str:
        match = _WANTED.fullmatch(name)
        if match is None or ".." in name.split("/"):
            return ""
        target = str(next(filter(None, match.groups())))
        if "/kernel/" in target:
            return target if target.endswith(modules.ENDS) else ""
        if target.endswith("modules.order"):  # which is of all modules of a build
            return target
        if target not in mine and (draft / target).exists():
            raise Problem(
                f"{target} is in another of the files, too\n"
                "hint: name those that belong together, as IMAGE+MODULES"
            )
        mine.add(target)
        return target

    mine = set[str]()
    alone = draft / "boot" / f"linux-{part.name}"
    try:
        if not is_package(path):
            alone.parent.mkdir(parents=True, exist_ok=True)
            alone.write_bytes(unwrapped(path.read_bytes()))
            identify(alone)
        elif not (unpack(path, draft, place) or part.optional):
            raise Problem(
                f"{path}: neither a kernel nor modules are in this package\n"
                "hint: give the one that has them: some only ask for others to be installed"
            )
    except Problem as problem:
        what = str(problem).removeprefix(f"{path}: ").removeprefix(f"{alone}: ")
        raise Problem(f"{part.text}: {what}", problem.status) from None


def _images(folder: Path) -> Iterator[Path]:
    """Yield the images in *folder*, a bzImage before the vmlinux that it was made from."""
    for pattern in ("lib/modules/*/*", "boot/*", "bin/*"):
        found = (path for path in folder.glob(pattern) if re.fullmatch(_IMAGE, path.name))
        images = [path for path in found if path.is_file()]
        yield from sorted(images, key=lambda path: (path.name.startswith("vmlinux"), path.name))


def _check(draft: Path, origin: str) -> None:
    """Unwrap the images in *draft* and remove files that are none.

    :raises Problem: there is not one kernel, or the modules are not its own.
    """
    releases = set[str]()
    reasons = []
    for path in list(_images(draft)):
        try:
            if is_wrapped(path):
                path.write_bytes(unwrapped(path.read_bytes()))
            releases.add(identify(path).release)
            path.chmod(0o755)  # for User-Mode Linux
        except Problem as problem:
            reasons.append(f"{path.name} in it: {str(problem).removeprefix(f'{path}: ')}")
            path.unlink()
    if len(releases) > 1:
        raise Problem(
            f"{origin}: several kernels, {', '.join(sorted(releases))}\nhint: name the files of one"
        )
    theirs = sorted({path.parent.name for path in draft.glob("lib/**/modules/*/kernel")})
    if not releases:
        without = f"{'modules, but ' if theirs else ''}no kernel\nhint: {_BOTH}"
        raise Problem(f"{origin}: {reasons[0] if reasons else without}")
    release = releases.pop()
    if release and theirs and release not in theirs:
        raise Problem(f"{origin}: Linux {release} and modules of {theirs[0]}\nhint: {_BOTH}")


def _kernel(folder: Path) -> Kernel:
    """The kernel in *folder*, which _check() has seen."""
    origin = (folder / _ORIGIN).read_text()
    path = next(_images(folder), None)
    if path is None:
        raise Problem(f"{folder}: no kernel any more\nhint: remove the folder")
    kernel = replace(identify(path, origin), home=folder)
    found = folder.glob(f"lib/**/modules/{kernel.release or '*'}/kernel")
    return replace(kernel, modules=next((path.parent for path in found), None))


def _cached() -> Iterator[Entry]:
    """Every kernel in the cache."""
    for folder in sorted(_folder().glob("[!.]*")):
        try:
            kernel = _kernel(folder)
            what = f"Linux {kernel.release}, {kernel.origin}"
        except (OSError, Problem):
            what = "a damaged kernel"  # which is to be removed as others are
        yield Entry(f"{NAME}:{folder.name[:_DIGITS]}", what, (folder,))


def source(make: Callable[[], Kernel]) -> Source:
    """Return the source of the kernel that *make* finds or unpacks, now as its image alone tells
    the architecture, and again should it be pruned before it is used."""
    kernel = make()
    article = "an" if kernel.kind is Kind.IMAGE else "a"
    what = f"{kernel.origin} is {article} {kernel.kind.value}"
    return Source(kernel.arch, what, lambda: kernel if kernel.path.exists() else make())


SCHEME = Scheme(
    NAME, FORM, lambda text: source(partial(get, text)), lambda _: None, _cached, None, claims
)
