# SPDX-License-Identifier: GPL-2.0-only
"""Kernels from Debian's packages: which one a specification means, fetched into the cache.

A specification is `debian[:SUITE][/FLAVOUR][=VERSION]`. The suite may be an alias such as
"testing"; VERSION is the kernel's own (7.0.13) or the beginning of one (7.0); FLAVOUR is the
package's, which ends in Debian's name of an architecture but for its size of pages ("amd64",
"rt-amd64", "cloud-arm64", "arm64-16k"), or "user-mode-linux". Without a suite the machine's
own backports, the stable release's, testing and unstable are asked in that order, and the first
that has a kernel with the feature is taken.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vm import paths
from vm.arch import ARCHITECTURES, UM, Arch, Processor, native
from vm.distro import apt, archive
from vm.errors import Exit, Problem
from vm.kernel import uml_libc
from vm.kernel.image import Kernel, identify
from vm.kernel.scheme import Entry, Scheme, Source
from vm.terminal import complain

NAME = "debian"
FORM = f"{NAME}[:SUITE][/FLAVOUR][=VERSION]"
UML = UM.flavour
#: OPEN_TREE_NAMESPACE came with this one.
_LEAST = (7, 0)
_SPEC = re.compile(
    r"debian(?::(?P<suite>[a-z][a-z0-9.-]*))?(?:/(?P<flavour>[a-z0-9-]+))?"
    r"(?:=(?P<version>\d+(?:\.\d+)*(?:[~-]?rc\d+)?))?"
)
#: Debian's kernel image: linux-binary-* from 7.0 on, linux-image-* (modules included) before.
_PACKAGE = re.compile(
    r"linux-(?P<kind>binary|image)-(?P<before>unsigned-)?(?P<version>\d+(?:\.\d+)+(?:[~-]rc\d+)?)"
    r"(?:\+[^-]+)?-(?P<flavour>[a-z0-9-]+?)(?P<after>-unsigned)?"
)
_PREFIXES = ("linux-binary-", "linux-image-")


@dataclass(frozen=True)
class Spec:
    """A kernel of Debian's, as far as the user named it; empty means "choose"."""

    suite: str = ""
    flavour: str = field(default_factory=lambda: native().flavour)
    version: str = ""

    @property
    def arch(self) -> Arch:
        """What it is for."""
        return _arch(self.flavour)


def _arch(flavour: str) -> Arch:
    """Return what packages of this *flavour* are for."""
    if flavour == UML:
        return UM
    words = flavour.split("-")
    boards = (arch for arch in ARCHITECTURES.values() if arch.board)
    return next((arch for arch in boards if arch.processor.debian in words), native())


def parse(text: str) -> Spec:
    """Return the specification in *text*. Raises Problem when it is none."""
    match = _SPEC.fullmatch(text)
    if match is None:
        raise Problem(
            f"{text}: not a package specification\n"
            f"hint: write {FORM}, such as debian:trixie-backports=7.0.13",
            Exit.USAGE,
        )
    flavour = match["flavour"] or native().flavour
    return Spec(match["suite"] or "", flavour, match["version"] or "")


def version_key(version: str) -> tuple[int, ...]:
    """Return what sorts kernel versions: 7.2.12 after 7.2.9, 7.3~rc7 before 7.3."""
    numbers, _, candidate = re.sub(r"[~-]?rc", "~", version).partition("~")
    parts = [int(number) for number in numbers.split(".")]
    return (*(parts + [0] * 3)[:3], int(candidate) if candidate else 1 << 30)


def matches(version: str, wanted: str) -> bool:
    """Return whether *version* is *wanted* or, number by number, begins with it."""
    return not wanted or version == wanted or version.startswith((f"{wanted}.", f"{wanted}~"))


def choose(names: Iterable[str], spec: Spec) -> tuple[str, str] | None:
    """Return (package, kernel version) of the newest package in *names* that *spec* allows."""
    found = []
    for name in names:
        match = _PACKAGE.fullmatch(name)
        if match and match["flavour"] == spec.flavour and matches(match["version"], spec.version):
            # A signed and an unsigned package of one version hold the same kernel; where there
            # is a linux-binary-*, the linux-image-* is an empty one that asks for it.
            signed = not (match["before"] or match["after"])
            rank = (version_key(match["version"]), match["kind"] == "binary", signed, name)
            found.append((rank, name, match["version"]))
    return max(found)[1:] if found else None


def _names(state: apt.Apt) -> list[str]:
    """Names of the packages that may be kernel images; those for debuggers hold none."""
    names = (name for prefix in _PREFIXES for name in state.names(prefix))
    return [name for name in names if not name.endswith("-dbg")]


def _unpacked() -> list[Path]:
    """The packages in the cache; earlier versions had them in kernels/SUITE/PACKAGE."""
    kernels = paths.cache() / "kernels"
    return sorted([*kernels.glob(f"{NAME}/*/*"), *kernels.glob("*/*")])


def _cached(spec: Spec) -> list[tuple[tuple[int, ...], Path]]:
    """Kernels in the cache that *spec* allows, oldest first."""
    found: list[tuple[tuple[int, ...], Path]] = []
    for folder in _unpacked():
        if folder.name == UML == spec.flavour and spec.suite in ("", folder.parent.name):
            found.append((_LEAST, folder))
        match = _PACKAGE.fullmatch(folder.name)
        if match is None or match["flavour"] != spec.flavour:
            continue
        if spec.suite in ("", folder.parent.name) and matches(match["version"], spec.version):
            found.append((version_key(match["version"]), folder))
    return sorted(found)


def _image(folder: Path, spec: Spec) -> Kernel:
    """The kernel in an unpacked package."""
    # Up to 7.1 the image lay in /boot.
    patterns = ("linux.uml", "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "lib/modules/*/vmlinuz")
    path = next((path for pattern in patterns for path in folder.glob(pattern)), None)
    if path is None:
        raise Problem(
            f"{folder}: no kernel in this package\nhint: remove the folder to fetch it again"
        )
    kernel = identify(path, f"debian {folder.parent.name}, {spec.flavour}")
    kernel = replace(kernel, home=folder, modules=_modules_in(folder))
    return uml_libc.with_loader(kernel, folder) if spec.flavour == UML else kernel


def _modules_in(folder: Path) -> Path | None:
    """Where the modules of an unpacked package lie, None when it has none."""
    for pattern in ("usr/lib/uml/modules/*", "usr/lib/modules/*", "lib/modules/*"):
        for path in folder.glob(pattern):
            if (path / "kernel").is_dir():
                return path
    return None


def _modules_folder(home: Path) -> Path:
    """Where the modules that go with the unpacked package *home* are kept."""
    name = home.name.replace("-unsigned", "").replace("linux-binary-", "linux-modules-")
    return home.with_name(name)


def _with_modules(kernel: Kernel, spec: Spec) -> Kernel:
    """*kernel* with its modules, which from 7.0 on come in a package of their own."""
    home = kernel.home
    if kernel.modules is not None or home is None or not home.name.startswith("linux-binary-"):
        return kernel
    folder = _modules_folder(home)
    name = folder.name

    def make(draft: Path) -> None:
        state, suite = archive.state(home.parent.name, spec.arch.processor)
        if name in state.names(name):
            package = state.package(name)
            state.unpack([package], draft, f"{name} {package.version} from {suite}")
        else:
            draft.mkdir()  # the archive has kept the kernel, but not its modules
            print(f"vm: no modules for this kernel: {suite} has no {name}", file=sys.stderr)

    try:
        with paths.locked("kernels"):
            paths.entry(folder, make)
    except Problem as problem:
        print(f"vm: no modules for this kernel: {problem}", file=sys.stderr)
        return kernel
    return replace(kernel, modules=_modules_in(folder))


def _fetch(state: apt.Apt, suite: str, name: str, spec: Spec) -> Kernel:
    def make(draft: Path) -> None:
        package = state.package(name)
        state.unpack([package], draft, f"{name} {package.version} from {suite}")
        if spec.flavour == UML:
            uml_libc.adopt(draft, lambda to: state.unpack([state.package("libc6")], to, "its libc"))

    there = (folder for folder in _unpacked() if folder.parts[-2:] == (suite, name))
    folder = next(there, paths.cache() / "kernels" / NAME / suite / name)
    return _image(paths.entry(folder, make), spec)


def _find_in(suite: str, spec: Spec) -> Kernel | None:
    """The kernel that *spec* means in *suite*, None when the suite has none."""
    state, suite = archive.state(suite, spec.arch.processor)
    if spec.flavour == UML:
        return _fetch(state, suite, UML, spec) if UML in state.names(UML) else None
    found = choose(_names(state), spec)
    if found is None or (not spec.suite and version_key(found[1])[:2] < _LEAST):
        return None
    return _fetch(state, suite, found[0], spec)


def get(spec: Spec) -> Kernel:
    """Return the kernel that *spec* means, with its modules, from the cache or the mirror.

    Raises Problem when no suite has it, or no mirror can be reached. Without its modules it is
    returned all the same.
    """
    return _with_modules(_kernel(spec), spec)


def _kernel(spec: Spec) -> Kernel:
    cached = _cached(spec)
    exact = [path for _, path in cached if spec.version and f"-{spec.version}+" in path.name]
    if exact:
        return _image(exact[-1], spec)
    reasons = []
    hint = "give one with --kernel PATH; `python3 -m vm kernels SUITE` lists what a suite has"
    with paths.locked("kernels"):
        for suite in [spec.suite] if spec.suite else archive.default_suites():
            try:
                kernel = _find_in(suite, spec)
            except apt.Unreachable as problem:
                reasons, hint = [problem.what], problem.hint or hint
                break
            except Problem as problem:
                reasons.append(f"{suite}: {problem.what}")
                continue
            if kernel is not None:
                return kernel
            reasons.append(f"{suite}: none")
    usable = [path for key, path in cached if spec.suite or spec.version or key[:2] >= _LEAST]
    if usable:
        print(f"vm: taking a kernel from the cache: {reasons[0]}", file=sys.stderr)
        return _image(usable[-1], spec)
    what = f"{spec.flavour} kernel{f' {spec.version}' if spec.version else ''}"
    if not (spec.suite or spec.version):
        what += f" of Linux {'.'.join(map(str, _LEAST))} or newer"
    raise Problem(f"cannot fetch a {what}: {'; '.join(reasons)}\nhint: {hint}")


def _text(suite: str, flavour: str, version: str = "") -> str:
    """The specification of these."""
    named = "" if flavour == native().flavour else f"/{flavour}"
    return f"{NAME}:{suite}{named}{f'={version}' if version else ''}"


def _listed() -> Iterator[Entry]:
    """Every kernel in the cache."""
    for folder in _unpacked():
        match = _PACKAGE.fullmatch(folder.name)
        suite = folder.parent.name
        if folder.name == UML:
            release = identify(folder / "linux.uml").release
            yield Entry(_text(suite, UML), f"Linux {release}", (folder,))
        elif match:
            modules = _modules_folder(folder)
            also = [modules] if modules != folder and modules.is_dir() else []
            version = match["version"]
            name = _text(suite, match["flavour"], version)
            yield Entry(name, f"Linux {version}", (folder, *also))


def obtainable(suite: str) -> list[str]:
    """Return specifications of the packaged kernels of *suite* that have the feature, newest first,
    those for this machine's own processor before others.

    Raises Problem when there is no such suite, or no mirror can be reached.
    """
    own = native().processor
    listed = _obtainable(suite, own)
    for other in {arch.processor for arch in ARCHITECTURES.values()} - {own}:
        try:
            listed += _obtainable(suite, other)
        except Problem as problem:  # not every mirror has every architecture
            complain(f"kernels for {other.debian} are left out: {problem.what}")
    return listed


def _obtainable(suite: str, processor: Processor) -> list[str]:
    state, suite = archive.state(suite, processor)
    found = set()
    for match in filter(None, map(_PACKAGE.fullmatch, _names(state))):
        key = version_key(match["version"])
        if key[:2] >= _LEAST:
            flavour = match["flavour"]
            fastest = flavour == _arch(flavour).flavour
            found.add((key, not fastest, flavour, _text(suite, flavour, match["version"])))
    uml = [_text(suite, UML)] if processor is UM.processor and UML in state.names(UML) else []
    return uml + [found[-1] for found in sorted(found, reverse=True)]


def _source(spec: Spec, text: str) -> Source:
    return Source(spec.arch, f"{text} is {spec.arch.text}", partial(get, spec))


def _newest(arch: Arch) -> Source | None:
    spec = Spec(flavour=arch.flavour)
    if not (archive.is_known() or _cached(spec)):
        return None
    return _source(spec, "the newest packaged kernel")


SCHEME = Scheme(NAME, FORM, lambda text: _source(parse(text), text), _newest, _listed, obtainable)
