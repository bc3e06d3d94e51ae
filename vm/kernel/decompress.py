# SPDX-License-Identifier: GPL-2.0-only
"""Decompresses kernels here, where it takes a tenth of what it takes in a guest.

A bzImage unpacks itself at boot, which costs an emulated guest a second. QEMU also boots what is
in it, an ELF file with the entry point of PVH (Documentation/arch/x86/boot.rst, and the note
XEN_ELFNOTE_PHYS32_ENTRY in xen/interface/elfnote.h).
"""

from __future__ import annotations

import struct
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from vm import elf, paths
from vm.compression import decompressed, format_of
from vm.errors import Problem
from vm.kernel.image import Kernel, Kind

#: The oldest boot protocol whose header tells where the payload lies.
_PROTOCOL = 0x0208
_PHYS32_ENTRY = struct.pack("<III", 4, 4, 18) + b"Xen\0"
_PHYS32_ENTRY_64 = struct.pack("<III", 4, 8, 18) + b"Xen\0"


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
    # Behind each but gzip's, which has it anyway, stands the size of what is in it.
    if (found := format_of(packed)) is None or found.name != "gzip":
        packed = packed[:-4]
    with suppress(Problem):
        return decompressed(packed)
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
