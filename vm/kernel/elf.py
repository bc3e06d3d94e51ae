# SPDX-License-Identifier: GPL-2.0-only
"""The program headers of 64-bit ELF files, see elf(5)."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

PT_LOAD, PT_INTERP, PT_NOTE = 1, 3, 4


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


def segments(data: bytes | mmap.mmap) -> Iterator[Segment]:
    """Yield the segments of the ELF file *data*. Raises struct.error when it is cut."""
    (table,) = struct.unpack_from("<Q", data, 32)
    step, count = struct.unpack_from("<HH", data, 54)
    for at in range(table, table + step * count, step):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, at)
        yield Segment(kind, offset, size, address, at)
