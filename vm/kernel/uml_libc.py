# SPDX-License-Identifier: GPL-2.0-only
"""Lets a User-Mode Linux package run on a machine whose C library is older than it asks for.

`ld.so ./linux` does not work: User-Mode Linux derives its physical memory from where
the program break lies, and that moves. So the package's program is copied with another path in
its PT_INTERP segment, one that leads to the loader of a C library unpacked beside it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from vm import elf
from vm.arch import UM
from vm.errors import Problem
from vm.kernel.image import Kernel

#: Relative to the working folder: an absolute path to the cache would not fit.
_LOADER = b"./ld.so"
_PROGRAM = "linux.uml"
_LIBC = "libc"


def needed_glibc(data: bytes) -> tuple[int, int]:
    """Return the newest glibc symbol version that the program in *data* asks for."""
    found = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[.\0])", data)
    return max(((int(a), int(b)) for a, b in found), default=(0, 0))


def host_glibc() -> tuple[int, int]:
    """Return this machine's glibc, (0, 0) when it has another C library."""
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    major, _, minor = version.partition(".")
    return (int(major), int(minor.partition(".")[0])) if name == "glibc" else (0, 0)


def with_interpreter(data: bytes, loader: bytes) -> bytes:
    """Return the ELF program *data* with *loader* as the path of its dynamic loader.

    Raises Problem when it names none, or the new path is longer than the old.
    """
    patched = bytearray(data)
    found = next((one for one in elf.segments(data) if one.kind == elf.PT_INTERP), None)
    if found is not None and len(loader) < found.size:
        patched[found.offset : found.offset + found.size] = loader.ljust(found.size, b"\0")
        struct.pack_into("<QQ", patched, found.header + 32, len(loader) + 1, len(loader) + 1)
        return bytes(patched)
    raise Problem("the User-Mode Linux program has no room for another loader")


def adopt(folder: Path, fetch_libc: Callable[[Path], None]) -> None:
    """Make `linux.uml` in *folder*, an unpacked package, a program that this machine can run.

    *fetch_libc* unpacks the C library of the package's own suite into the folder it is given.
    """
    program = next(folder.glob("usr/bin/linux.uml"), None)
    if program is None:
        raise Problem("no linux.uml in the user-mode-linux package")
    data = program.read_bytes()
    if needed_glibc(data) > host_glibc():
        fetch_libc(folder / _LIBC)
        loader = next((folder / _LIBC).glob(f"usr/lib*/**/{UM.processor.loader}"), None)
        if loader is None:
            raise Problem("no loader in the libc6 package")
        (folder / "ld.so").symlink_to(os.path.relpath(loader.resolve(), folder.resolve()))
        (folder / _PROGRAM).write_bytes(with_interpreter(data, _LOADER))
        (folder / _PROGRAM).chmod(0o755)
        program.unlink()
    else:
        program.rename(folder / _PROGRAM)


def with_loader(kernel: Kernel, folder: Path) -> Kernel:
    """Return *kernel* with what it takes to start it, when adopt() gave it a C library of its
    own."""
    if not (folder / "ld.so").exists():
        return kernel
    libraries = next((folder / _LIBC).glob("usr/lib*/**/libc.so.6")).parent
    # Only for this program: any other would be given a C library that is not its own.
    return replace(kernel, folder=folder, loader_environment=(("LD_LIBRARY_PATH", str(libraries)),))
