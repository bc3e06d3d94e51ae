# SPDX-License-Identifier: GPL-2.0-only
"""Takes a kernel out of what it is wrapped in, which QEMU does not do for every architecture.

That is compression; the EFI program that decompresses itself (zboot, see the kernel's
drivers/firmware/efi/libstub/zboot-header.S); and the unified kernel image, an EFI program with the
kernel in its section .linux (the UAPI Group's specification UKI).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from vm.compression import decompressed, format_of
from vm.errors import Problem

#: Bytes that tell what a file is.
_HEAD = 0x208
#: Kernels of x86, arm64 and riscv that are EFI programs: where it says so in their first bytes.
_KERNELS = ((0x202, b"HdrS"), (0x38, b"ARM\x64"), (0x38, b"RSC\x05"))
_ZBOOT, _EFI = b"zimg", b"MZ"
#: Wrappings around one another, at most.
_DEPTH = 4
#: Sections that unified kernel images have, with a kernel or, as addons, without.
_UNIFIED = {".cmdline", ".initrd", ".uname", ".dtb", ".ucode", ".pcrsig"}
_AGAIN = "fetch or build it again"


def is_wrapped(path: Path) -> bool:
    """Return whether the file *path* has its kernel wrapped, or is an EFI program without one.

    :raises OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return _wrapping(file.read(_HEAD)) is not None


def unwrapped(data: bytes) -> bytes:
    """Return what is wrapped in *data*; as it is where nothing is.

    :raises Problem: it is damaged, holds no kernel, or a program to decompress it is missing.
    """
    for _ in range(_DEPTH):
        wrapping = _wrapping(data)
        if wrapping is None:
            break
        try:
            data = wrapping(data)
        except struct.error:
            raise Problem(f"a truncated EFI program\nhint: {_AGAIN}") from None
        except Problem as problem:
            hint = problem.hint or _AGAIN
            raise Problem(f"{problem.what}\nhint: {hint}") from None
    return data


def _wrapping(data: bytes) -> Callable[[bytes], bytes] | None:
    """What unwraps *data*, of which the first bytes will do."""
    if format_of(data) is not None:
        return decompressed
    if data[4:8] == _ZBOOT:
        return _zboot
    if not data.startswith(_EFI) or any(data.startswith(magic, at) for at, magic in _KERNELS):
        return None
    return _unified


def _zboot(data: bytes) -> bytes:
    offset, size = struct.unpack_from("<II", data, 8)
    if offset + size > len(data):
        raise Problem(f"a truncated EFI kernel (zboot): {len(data)} bytes of {offset + size}")
    return data[offset : offset + size]


def _unified(data: bytes) -> bytes:
    sections = {name: (offset, size) for name, offset, size in _sections(data)}
    if ".linux" in sections:
        offset, size = sections[".linux"]
        if offset + size > len(data):
            what = f"{len(data)} bytes of {offset + size}"
            raise Problem(f"a truncated unified kernel image: {what}")
        return data[offset : offset + size]
    if _UNIFIED & set(sections):
        raise Problem(
            "a unified kernel image without a kernel: it has no section .linux\n"
            "hint: give the image that has one, or the kernel itself"
        )
    raise Problem("an EFI program, not a kernel\nhint: give a kernel or a unified kernel image")


def _sections(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield (name, offset, size) of the sections of the EFI program *data* (the PE format)."""
    (at,) = struct.unpack_from("<I", data, 0x3C)
    if data[at : at + 4] != b"PE\0\0":
        raise Problem("a program for DOS, not a kernel\nhint: give a kernel")
    (count,) = struct.unpack_from("<H", data, at + 6)
    (optional,) = struct.unpack_from("<H", data, at + 20)
    at += 24 + optional
    for here in range(at, at + 40 * count, 40):
        name, used, _, stored, offset = struct.unpack_from("<8sIIII", data, here)
        # What is stored may be padded.
        yield name.rstrip(b"\0").decode("ascii", "replace"), offset, min(used, stored) or stored
