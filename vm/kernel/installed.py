# SPDX-License-Identifier: GPL-2.0-only
"""Kernels as distributions install them. `--kernel host` is the one that is running here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from vm.errors import Problem
from vm.kernel import files
from vm.kernel.image import Kernel

#: The word for --kernel.
NAME = "host"


def kernel(root: Path = Path("/")) -> Kernel:
    """Return the running kernel's image. Raises Problem when there is none, or it cannot be
    read."""
    release = os.uname().release
    modules = root / "lib/modules" / release
    places = (root / f"boot/vmlinuz-{release}", modules / "vmlinuz")
    path = next((path for path in places if path.exists()), None)
    if path is None:
        raise Problem(
            f"no image of the running kernel {release}: neither {places[0]} nor {places[1]}\n"
            "hint: give one with --kernel PATH"
        )
    if not os.access(path, os.R_OK):
        raise Problem(
            f"{path}: only root may read it\nhint: run as root, or give a copy with --kernel PATH"
        )
    return with_modules(files.image(path, f"the running kernel, {path}"), path)


def with_modules(kernel: Kernel, image: Path) -> Kernel:
    """Return *kernel* with the modules that were installed along with it, if they are where they
    belong: beside its *image* /lib/modules/RELEASE/vmlinuz, or in that folder for
    /boot/vmlinuz-RELEASE."""
    here = image.resolve().parent
    beside = [here.parent / top / kernel.release for top in ("lib/modules", "usr/lib/modules")]
    folders = [folder for folder in (here, *beside) if (folder / "kernel").is_dir()]
    return replace(kernel, modules=folders[0]) if folders else kernel
