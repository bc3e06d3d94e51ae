# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel image is: told from its bytes, before any program is started with it."""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from vm import elf
from vm.arch import ARM64, UM, X86_64, Arch
from vm.errors import Problem

_BANNER = re.compile(rb"Linux version (\d[^\s\0]{1,80}) \(")
#: Kernel code of x86-64 lies in the upper half of the address space, User-Mode Linux's does not.
_UPPER_HALF = 1 << 63

#: The boot protocol from which on a bzImage tells that it has a 64-bit entry; and where (bit 0).
_PROTOCOL, _FOR_64_BITS = 0x020C, 1
#: Where it stands in an Image for arm64 (Documentation/arch/arm64/booting.rst).
_ARM64 = (0x38, b"ARM\x64")

_HINT = "give a bzImage, a vmlinux, an Image, a User-Mode Linux binary or a kernel's package"
_AGAIN = "fetch or build it again"
#: Offset, magic number, what that is, what to do about it.
_OTHERS = ((0x38, b"RSC\x05", "a kernel for riscv, which there are no guests for", _HINT),)


class Kind(Enum):
    """The forms a kernel comes in."""

    BZIMAGE = "bzImage"
    VMLINUX = "vmlinux"
    IMAGE = "Image for arm64"
    UML = "User-Mode Linux"


@dataclass(frozen=True)
class Kernel:
    """A kernel that can be booted."""

    path: Path
    kind: Kind
    #: What uname(2) will most likely say, empty when the image does not tell.
    release: str
    #: Where it comes from, for people: a path or a package.
    origin: str
    #: For a User-Mode Linux with a C library of its own: the folder and the environment it needs.
    folder: Path | None = None
    loader_environment: tuple[tuple[str, str], ...] = ()
    #: Where its modules lie, None when it has none.
    modules: Path | None = None
    #: The unpacked package or build tree that it lies in, None for an image on its own.
    home: Path | None = None
    #: What it was built from, None when *home* is no build tree or the source is gone.
    source: Path | None = None

    @property
    def arch(self) -> Arch:
        """What it is for."""
        return {Kind.UML: UM, Kind.IMAGE: ARM64}.get(self.kind, X86_64)

    def __str__(self) -> str:
        return f"{f'Linux {self.release}' if self.release else 'a kernel'} ({self.origin})"


def _bzimage(path: Path, data: mmap.mmap) -> str:
    """The release in a bzImage, see Documentation/arch/x86/boot.rst; Problem when it is cut."""
    sectors = data[0x1F1] or 4
    paragraphs, version = (
        struct.unpack_from("<I", data, 0x1F4)[0],
        struct.unpack_from("<H", data, 0x20E)[0],
    )
    needed = (sectors + 1) * 512 + paragraphs * 16
    if len(data) < needed:
        raise Problem(f"{path}: truncated bzImage ({len(data)} bytes of {needed})\nhint: {_AGAIN}")
    (protocol,) = struct.unpack_from("<H", data, 0x206)
    if protocol >= _PROTOCOL and not data[0x236] & _FOR_64_BITS:
        raise Problem(f"{path}: a kernel for 32-bit x86, and guests are x86-64\nhint: {_HINT}")
    if not version:
        return ""
    text = data[0x200 + version : 0x200 + version + 128].split(b"\0")[0]
    return text.split(b" ")[0].decode("ascii", "replace")


def _elf(path: Path, data: mmap.mmap) -> tuple[Kind, str]:
    """Kind and release of an ELF kernel; Problem when it is none or is cut."""
    found = elf.processor(data) if len(data) >= 64 else (0, 0)
    if found == ARM64.processor.elf:
        raise Problem(
            f"{path}: an ELF file for {ARM64.name}, which QEMU does not boot\n"
            f"hint: give the {ARM64.target} of the same build, {ARM64.images[0]} in its tree"
        )
    if found != X86_64.processor.elf:
        raise Problem(f"{path}: an ELF file, but not for x86-64\nhint: {_HINT}")
    offset, sections = struct.unpack_from("<QQ", data, 32)
    size, count, section_size, section_count = struct.unpack_from("<HHHH", data, 54)
    needed, kind = sections + section_size * section_count, Kind.UML
    if offset + size * count > len(data):
        raise Problem(f"{path}: truncated ELF file ({len(data)} bytes)\nhint: {_AGAIN}")
    for segment in elf.segments(data):
        if segment.kind == elf.PT_LOAD:
            needed = max(needed, segment.offset + segment.size)
            if segment.address >= _UPPER_HALF:
                kind = Kind.VMLINUX
    if needed > len(data):
        raise Problem(f"{path}: truncated ELF file ({len(data)} bytes of {needed})\nhint: {_AGAIN}")
    release = _banner(data)
    if not release:
        raise Problem(f"{path}: an ELF file, but not a Linux kernel\nhint: {_HINT}")
    return kind, release


def _banner(data: mmap.mmap) -> str:
    """The release in an uncompressed kernel, empty where there is none."""
    banner = _BANNER.search(data)
    return banner[1].decode("ascii", "replace") if banner else ""


def _other(head: bytes) -> tuple[str, str]:
    """Return what a file is that begins with *head* and is no kernel for guests, and what to do."""
    for at, magic, what, hint in _OTHERS:
        if head[at : at + len(magic)] == magic:
            return what, hint
    return "not a kernel image", _HINT


def identify(path: Path, origin: str = "") -> Kernel:
    """Return the kernel in the file *path*. Raises Problem, with the reason, when there is none."""
    origin = origin or str(path)
    if path.is_dir():
        raise Problem(f"{path}: is a directory, not a kernel image")
    if path.exists() and not path.is_file():  # to open a pipe is to wait for ever
        raise Problem(f"{path}: not a regular file\nhint: copy the kernel into one")
    try:
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise Problem(f"{path}: an empty file, not a kernel image")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if len(data) > 0x264 and data[0x202:0x206] == b"HdrS":
                    return Kernel(path.resolve(), Kind.BZIMAGE, _bzimage(path, data), origin)
                if data[:4] == b"\x7fELF":
                    kind, release = _elf(path, data)
                    return Kernel(path.resolve(), kind, release, origin)
                if data.find(_ARM64[1], _ARM64[0], 64) == _ARM64[0]:
                    return Kernel(path.resolve(), Kind.IMAGE, _banner(data), origin)
                what, hint = _other(data[:64])
                raise Problem(f"{path}: {what}\nhint: {hint}")
    except FileNotFoundError as error:
        raise Problem(
            f"{path}: {error.strerror}\n"
            "hint: give a path; a packaged kernel as debian[:SUITE][/FLAVOUR][=VERSION], such as"
            " debian=7.0"
        ) from None
    except OSError as error:
        raise Problem(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise Problem(f"{path}: cannot be mapped ({error})") from None
