# SPDX-License-Identifier: GPL-2.0-only
"""Package files of a few members, in each form there is, and what compresses."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Callable, Mapping

import pytest

from tests.harness.helpers.images import bzimage

Pack = Callable[[bytes], bytes]
#: What the kernel in images.bzimage() calls itself.
VERSION = "7.9.1-test"
#: What a package of a kernel has: the image, modules, and what no guest needs.
IMAGE = {f"boot/vmlinuz-{VERSION}": bzimage(), f"boot/config-{VERSION}": b"CONFIG_X86=y\n"}
OVERLAY = f"lib/modules/{VERSION}/kernel/fs/overlayfs/overlay.ko"
MODULES = {
    OVERLAY: b"\x7fELF....\0name=overlay\0depends=\0",
    f"lib/modules/{VERSION}/modules.dep": b"",
}


def program(*command: str) -> Pack:
    """What compresses with a program, and skips a test where there is none."""

    def pack(data: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]} program here")
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return pack


#: By the name of the form, which is how files are named, too.
COMPRESS: dict[str, Pack] = {
    "gz": lambda data: gzip.compress(data, mtime=0),
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bz2": bz2.compress,
    "zst": program("zstd", "-c"),
    "lz4": program("lz4", "-c"),
}


def tar(files: Mapping[str, bytes], pack: Pack = bytes, links: Mapping[str, str] = {}) -> bytes:
    """A tar archive, as it is in a .deb, of Arch's, and of `make tar-pkg`."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in links.items():
            info = tarfile.TarInfo(f"./{name}")
            info.type, info.linkname = tarfile.LNKTYPE, f"./{target}"
            archive.addfile(info)
    return pack(stream.getvalue())


def deb(files: Mapping[str, bytes], pack: Pack = COMPRESS["xz"], end: str = "xz") -> bytes:
    """A Debian package."""
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": tar({"control": b"Package: linux-image\n"}, COMPRESS["gz"]),
        f"data.tar.{end}": tar(files, pack),
    }
    data = b"!<arch>\n"
    for name, contents in members.items():
        header = f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(contents):<10}`\n"
        data += header.encode() + contents + b"\n" * (len(contents) % 2)
    return data


def _header(entries: int, store: bytes) -> bytes:
    index = struct.pack(">IIII", 1000, 6, 0, 1) * entries
    return b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", entries, len(store)) + index + store


def rpm(files: Mapping[str, bytes], pack: Pack = COMPRESS["gz"]) -> bytes:
    """An RPM package."""
    cpio = b""
    for number, (name, data) in enumerate({**files, "TRAILER!!!": b""}.items()):
        path = name.encode() if name == "TRAILER!!!" else f"./{name}".encode()
        fields = (number, 0o100644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path) + 1, 0)
        member = b"070701" + b"".join(b"%08x" % field for field in fields) + path + b"\0"
        cpio += member + bytes(-len(member) % 4) + data + bytes(-len(data) % 4)
    lead = b"\xed\xab\xee\xdb\x03\x00".ljust(96, b"\0")
    signatures = _header(1, b"signed\0")
    return lead + signatures + bytes(-len(signatures) % 8) + _header(2, b"linux\0") + pack(cpio)
