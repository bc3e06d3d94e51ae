# SPDX-License-Identifier: GPL-2.0-only
"""The image of the kernel that is running on this machine: `--kernel host`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from vm.errors import Problem
from vm.kernels import Kernel, identify

#: The word for --kernel.
NAME = "host"


def kernel(root: Path = Path("/")) -> Kernel:
    """The running kernel's image. Raises Problem when there is none, or it cannot be read."""
    release = os.uname().release
    modules = root / "lib/modules" / release
    places = (root / f"boot/vmlinuz-{release}", modules / "vmlinuz")
    path = next((path for path in places if path.exists()), None)
    if path is None:
        raise Problem(
            f"no image of the running kernel {release}: neither {places[0]} nor {places[1]};"
            " give one with --kernel PATH"
        )
    if not os.access(path, os.R_OK):
        raise Problem(
            f"{path}: only root may read it; run as root, or give a copy with --kernel PATH"
        )
    found = identify(path, f"the running kernel, {path}")
    return replace(found, modules=modules if modules.is_dir() else None)
