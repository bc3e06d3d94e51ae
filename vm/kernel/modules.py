# SPDX-License-Identifier: GPL-2.0-only
"""Finds the modules that the cases need, where a kernel has them as modules and not built in.

A guest has no modprobe: it is given the few that are needed, in the order to load them. What a
module depends on is read from itself, since depmod has not been run on an unpacked package or a
build tree. They are decompressed here: not every kernel can, and a guest would take longer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from vm.compression import decompressed
from vm.errors import Problem
from vm.process import stripped

#: By name, as lsmod(8) prints it.
NEEDED = ("overlay", "fuse")
_DEPENDS = re.compile(rb"(?:^|\0)depends=([\w,]*)\0")
#: What sign-file puts at a signed module's end; stripping would cut it off.
_SIGNED = b"~Module signature appended~\n"
#: How their names end.
ENDS = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")


def _name(file: str) -> str:
    return os.path.basename(file).partition(".")[0].replace("-", "_")


def _files(folder: Path) -> Iterator[Path]:
    """The modules in *folder*, a build tree or a folder such as /lib/modules/RELEASE."""
    order = folder / "modules.order"
    if order.is_file():
        for line in order.read_text().splitlines():
            stem = line.removesuffix(".o").removesuffix(".ko")  # .o in build trees since 6.3
            yield from (path for end in ENDS if (path := folder / (stem + end)).exists())
    else:
        for here, _, names in os.walk(folder):
            yield from (Path(here, name) for name in names if name.endswith(ENDS))


def _read(path: Path) -> bytes:
    """The module in the file *path*. Raises Problem when it cannot be read."""
    try:
        data = decompressed(path.read_bytes())
    except (OSError, Problem) as error:
        raise Problem(f"{path}: {error}") from None
    return data if data.endswith(_SIGNED) else stripped(data, "--strip-debug")


def collect(folder: Path, needed: tuple[str, ...] = NEEDED) -> dict[str, bytes]:
    """Return name -> contents of the *needed* modules in *folder* and what they depend on, in the
    order to load them. One that is not there is built in, or the kernel does without it.

    Raises Problem when one cannot be read.
    """
    files = {_name(path.name): path for path in _files(folder)}
    found: dict[str, bytes] = {}

    def add(name: str) -> None:
        if name in found or name not in files:
            return
        data = _read(files[name])
        match = _DEPENDS.search(data)
        for dependency in match[1].decode().split(",") if match else ():
            add(dependency)
        found[name] = data

    for name in needed:
        add(name)
    return found
