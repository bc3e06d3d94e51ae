# SPDX-License-Identifier: GPL-2.0-only
"""What ELF files say of themselves, of 32 bits and 64, see elf(5)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE = 1, 2, 3, 4
_DT_NEEDED, _DT_STRTAB = 1, 5


@dataclass(frozen=True)
class Segment:
    """A part of the file that is loaded, or tells about it."""

    kind: int
    #: Bytes: where it begins in the file, and how long it is there.
    offset: int
    size: int
    #: The virtual address.
    address: int
    #: Where in the file its own header lies.
    header: int


def processor(data: bytes | mmap.mmap) -> tuple[int, int]:
    """Return EI_CLASS and e_machine of the ELF file *data*. Raises struct.error when it is cut."""
    (machine,) = struct.unpack_from("<H", data, 18)
    return data[4], machine


def segments(data: bytes | mmap.mmap) -> Iterator[Segment]:
    """Yield the segments of the ELF file *data*. Raises struct.error when it is cut."""
    wide = data[4] == 2
    (table,) = struct.unpack_from(*(("<Q", data, 32) if wide else ("<I", data, 28)))
    step, count = struct.unpack_from("<HH", data, 54 if wide else 42)
    for at in range(table, table + step * count, step):
        if wide:
            kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, at)
        else:
            kind, offset, address, _, size = struct.unpack_from("<5I", data, at)
        yield Segment(kind, offset, size, address, at)


def loader(data: bytes) -> str:
    """Return the path of the loader that the program *data* names, empty where it names none."""
    found = (one for one in segments(data) if one.kind == PT_INTERP)
    return next((_text(data, one.offset) for one in found), "")


def libraries(data: bytes) -> list[str]:
    """Return the names of the shared libraries that *data* asks for (DT_NEEDED)."""
    parts = list(segments(data))
    dynamic = next((one for one in parts if one.kind == PT_DYNAMIC), None)
    if dynamic is None:
        return []
    form = "<QQ" if data[4] == 2 else "<II"
    piece = data[dynamic.offset : dynamic.offset + dynamic.size]
    entries = list(struct.iter_unpack(form, piece))
    address = next((value for tag, value in entries if tag == _DT_STRTAB), 0)
    table = next(
        (
            one.offset + address - one.address
            for one in parts
            if one.kind == PT_LOAD and one.address <= address < one.address + one.size
        ),
        0,
    )
    return [_text(data, table + value) for tag, value in entries if tag == _DT_NEEDED]


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()
