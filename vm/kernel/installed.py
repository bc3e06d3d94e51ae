# SPDX-License-Identifier: GPL-2.0-only
"""Kernels as distributions install them. `--kernel host` is the one that is running here."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vm.errors import Problem
from vm.kernel import files
from vm.kernel.image import Kernel

#: The word for --kernel.
NAME = "host"
#: Images whose name tells that they are the running kernel's: of most distributions, of those with
#: everything below /usr (Arch, Fedora, openSUSE), of NixOS, and of Gentoo.
_NAMED = (
    *("boot/vmlinuz-{}", "lib/modules/{}/vmlinuz", "usr/lib/modules/{}/vmlinuz"),
    *("run/booted-system/kernel", "boot/kernel-{}"),
)
#: Those that may be (vmlinuz-linux of Arch, vmlinuz-lts of Alpine, unified kernel images).
_OTHERS = ("boot/vmlinuz*", "boot/bzImage*", "boot/EFI/Linux/*.efi", "efi/EFI/Linux/*.efi")


def kernel(root: Path = Path("/")) -> Kernel:
    """Return the running kernel's image, with its modules.

    :raises Problem: there is none, or it cannot be read.
    """
    release = os.uname().release
    named = [root / place.format(release) for place in _NAMED]
    path = next((path for path in named if path.exists()), None)
    others = () if path else (path for place in _OTHERS for path in sorted(root.glob(place)))
    hidden = None
    for other in others:
        if not os.access(other, os.R_OK):
            hidden = hidden or other
        elif _release(other) == release:
            path = other
            break
    path = path or hidden
    if path is None:
        raise Problem(
            f"no image of the running kernel {release}: neither {named[0]} nor {named[1]}, nor"
            f" another of this release in {root / 'boot'}\nhint: give one with --kernel PATH"
        )
    if not os.access(path, os.R_OK):
        raise Problem(
            f"{path}: only root may read it\nhint: run as root, or give a copy with --kernel PATH"
        )
    return with_modules(files.image(path, f"the running kernel, {path}"), path, root)


def _release(image: Path) -> str:
    """The release of an image, empty where that is not known."""
    with suppress(Problem):
        return files.image(image).release
    return ""


def with_modules(kernel: Kernel, image: Path, root: Path | None = None) -> Kernel:
    """Return *kernel* with the modules that were installed along with it.

    :param image: the file as it was named: they are looked for beside it, in /lib/modules where it
        is in /boot, and where a generation of NixOS has them.
    :param root: of the system that it runs.
    """
    places = [image.parent, image.resolve().parent]
    for top in (*(place.parent for place in places), *([root] if root else [])):
        places += [top / name / kernel.release for name in ("lib/modules", "usr/lib/modules")]
    systems = [image.parent, *(root.glob("run/*-system") if root else [])]
    places += [place / "kernel-modules/lib/modules" / kernel.release for place in systems]
    folder = next((place for place in places if (place / "kernel").is_dir()), None)
    return kernel if folder is None else replace(kernel, modules=folder)
