# SPDX-License-Identifier: GPL-2.0-only
"""Files that pass for kernels, and folders that pass for their source."""

from __future__ import annotations

import struct
from pathlib import Path

RELEASE = b"7.9.1-test (someone@somewhere) #1"
BANNER = b"Linux version 7.9.1-test (someone@somewhere) #1"
#: Architecture -> what .config says of it.
CONFIGS = {
    "um": "CONFIG_UML=y\nCONFIG_X86_64=y\n",
    "x86": "CONFIG_X86=y\nCONFIG_X86_64=y\n",
    "arm64": "CONFIG_ARM64=y\n# CONFIG_X86 is not set\n",
}


def bzimage(
    sectors: int = 4,
    paragraphs: int = 64,
    payload: bytes = b"",
    protocol: int = 0x20F,
    flags: int = 1,
) -> bytes:
    """The smallest file that has a bzImage's header and length, and room for *payload*."""
    code = b"\xf4" * 100 if payload else b""
    paragraphs = max(paragraphs, -(-len(code + payload) // 16))
    data = bytearray((sectors + 1) * 512 + paragraphs * 16)
    data[0x1F1] = sectors
    struct.pack_into("<I", data, 0x1F4, paragraphs)
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<HH", data, 0x206, protocol, 0)
    struct.pack_into("<H", data, 0x20E, 0x200)
    struct.pack_into("<H", data, 0x236, flags)
    data[0x400 : 0x400 + len(RELEASE)] = RELEASE
    struct.pack_into("<II", data, 0x248, len(code), len(payload))
    start = (sectors + 1) * 512
    data[start : start + len(code + payload)] = code + payload
    return bytes(data)


def arm64_image(banner: bytes = BANNER) -> bytes:
    """The smallest file that has the header of an Image for arm64, and a kernel's banner."""
    return b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(8) + banner + b"\0"


def elf(address: int, *, machine: int = 62, banner: bytes = b"", interpreter: bytes = b"") -> bytes:
    """An ELF file with one loaded segment and perhaps a dynamic loader."""
    count = 2 if interpreter else 1
    body = interpreter + banner.ljust(64, b"\0")
    start = 64 + 56 * count
    header = bytearray(64)
    header[:6] = b"\x7fELF\x02\x01"
    struct.pack_into("<HH", header, 16, 2, machine)
    struct.pack_into("<QQ", header, 32, 64, 0)
    struct.pack_into("<HHHH", header, 54, 56, count, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, start, address, address, len(body), len(body), 4096)
    room = len(interpreter)
    named = struct.pack("<IIQQQQQQ", 3, 4, start, 0, 0, room, room, 1) if interpreter else b""
    return bytes(header) + load + named + body


def a_source(folder: Path) -> Path:
    """The files a kernel's source is known by."""
    folder.mkdir(parents=True)
    for name in ("Kconfig", "Kbuild", "Makefile"):
        (folder / name).touch()
    return folder
