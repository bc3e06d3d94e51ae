# SPDX-License-Identifier: GPL-2.0-only
"""ELF files that name a loader and the libraries they need, of 32 bits and 64."""

from __future__ import annotations

import struct

_BASE = 0x10000


def elf(processor: tuple[int, int], *libraries: str, loader: str = "") -> bytes:
    """The smallest file that is for *processor* (EI_CLASS, e_machine) and asks for *libraries*."""
    wide = processor[0] == 2
    number = "Q" if wide else "I"
    head, step = (64, 56) if wide else (52, 32)
    names, at = b"\0", []
    for name in libraries:
        at.append(len(names))
        names += name.encode() + b"\0"
    interpreter = loader.encode() + b"\0"
    count = 3
    start = head + step * count
    strings = start + len(interpreter)
    table = strings + len(names)
    entries = [*((1, offset) for offset in at), (5, _BASE + strings), (0, 0)]
    dynamic = b"".join(struct.pack(f"<2{number}", *entry) for entry in entries)
    size = table + len(dynamic)

    def segment(kind: int, offset: int, length: int) -> bytes:
        address = _BASE + offset
        if wide:
            return struct.pack("<2I6Q", kind, 4, offset, address, address, length, length, 1)
        return struct.pack("<8I", kind, offset, address, address, length, length, 4, 1)

    header = bytearray(head)
    header[:6] = b"\x7fELF" + bytes((processor[0], 1))
    struct.pack_into("<2H", header, 16, 3, processor[1])
    struct.pack_into(f"<{number}", header, 32 if wide else 28, head)
    struct.pack_into("<2H", header, 54 if wide else 42, step, count)
    parts = segment(1, 0, size) + segment(2, table, len(dynamic))
    parts += segment(3 if loader else 4, start, len(interpreter))
    return bytes(header) + parts + interpreter + names + dynamic
