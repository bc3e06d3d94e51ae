# SPDX-License-Identifier: GPL-2.0-only
"""Reads an initramfs: cpio archives in the "newc" format, one behind another."""

from __future__ import annotations

from collections.abc import Iterator

_MAGIC = b"070701"
#: Bytes.
_HEADER = 110


def read(data: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Yield (name, mode, contents) of each member of the archives in *data*."""
    at = 0
    while at + _HEADER <= len(data):
        header = data[at : at + _HEADER]
        if header[:6] != _MAGIC:
            raise ValueError(f"no newc header at byte {at}")
        fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        at += _HEADER
        name = data[at : at + name_size - 1].decode("utf-8", "surrogateescape")
        at += name_size
        at += -at % 4
        contents = data[at : at + size]
        at += size
        at += -at % 4
        if name != "TRAILER!!!":
            yield name, mode, contents
