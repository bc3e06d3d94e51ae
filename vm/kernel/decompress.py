# SPDX-License-Identifier: GPL-2.0-only
"""Decompresses kernels and modules here, where it takes a tenth of what it takes in a guest.

A bzImage unpacks itself at boot, which costs an emulated guest a second. QEMU also boots what is
in it, an ELF file with the entry point of PVH (Documentation/arch/x86/boot.rst, and the note
XEN_ELFNOTE_PHYS32_ENTRY in xen/interface/elfnote.h).
"""

from __future__ import annotations

import bz2
import gzip
import importlib
import lzma
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vm import elf, paths
from vm.errors import Problem
from vm.kernel.image import Kernel, Kind

#: The oldest boot protocol whose header tells where the payload lies.
_PROTOCOL = 0x0208
_PHYS32_ENTRY = struct.pack("<III", 4, 4, 18) + b"Xen\0"
_PHYS32_ENTRY_64 = struct.pack("<III", 4, 8, 18) + b"Xen\0"


def unzstd(data: bytes) -> bytes:
    """Decompress *data*, one zstd frame. Raises Problem where nothing here can."""
    try:
        zstd = importlib.import_module("compression.zstd")  # since Python 3.14
    except ImportError:
        if shutil.which("zstd") is None:
            raise Problem("needs the zstd program, or Python 3.14") from None
        done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False)
        if done.returncode:
            raise Problem(f"zstd: {done.stderr.decode(errors='replace').strip()}") from None
        return done.stdout
    return bytes(zstd.decompress(data))


#: How the kernel is compressed, by the first bytes. Behind each payload but gzip's stands its size.
_FORMATS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"\xfd7zXZ": lambda data: lzma.decompress(data[:-4]),
    b"\x5d\0\0": lambda data: lzma.decompress(data[:-4]),
    b"BZh": lambda data: bz2.decompress(data[:-4]),
    b"\x28\xb5\x2f\xfd": lambda data: unzstd(data[:-4]),
}


def _payload(data: bytes) -> bytes:
    """What is compressed in the bzImage *data*; empty when its header does not tell."""
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    if protocol < _PROTOCOL:
        return b""
    offset, length = struct.unpack_from("<II", data, 0x248)
    start = ((data[0x1F1] or 4) + 1) * 512 + offset
    return data[start : start + length]


def _elf(bzimage: Path) -> bytes:
    """What is in *bzimage*, decompressed; empty when nothing here can do that."""
    packed = _payload(bzimage.read_bytes())
    for magic, decompress in _FORMATS.items():
        if packed.startswith(magic):
            with suppress(OSError, EOFError, ValueError, lzma.LZMAError, zlib.error, Problem):
                return decompress(packed)
    return b""


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _boots_as_pvh(data: bytes) -> bool:
    """Return whether QEMU can enter *data*: an ELF kernel with the note, in a segment of notes."""
    return data.startswith(b"\x7fELF") and any(
        note in data[one.offset : one.offset + one.size]
        for one in elf.segments(data)
        if one.kind == elf.PT_NOTE
        for note in (_PHYS32_ENTRY, _PHYS32_ENTRY_64)
    )


def unpacked(kernel: Kernel, folder: Path) -> Kernel:
    """Return *kernel* with its image decompressed; as it is where that cannot be done.

    That of a fetched kernel is kept beside it, any other one's goes to *folder*.
    """
    if kernel.kind is not Kind.BZIMAGE:
        return kernel
    if kernel.path.is_relative_to(paths.cache() / "kernels"):
        folder = kernel.path.parent
    path = folder / "vmlinux"
    if not path.exists():
        data = _elf(kernel.path)
        if not _boots_as_pvh(data):
            return kernel
        paths.entry(path, lambda draft: _write(draft, data))
    return replace(kernel, path=path, kind=Kind.VMLINUX)
