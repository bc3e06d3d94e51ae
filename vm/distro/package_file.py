# SPDX-License-Identifier: GPL-2.0-only
"""Reads package files without the programs of their distribution: nothing is installed.

A .deb is an ar archive with a tar archive in it (deb(5)); an .rpm two headers and a cpio archive
(the RPM file format, version 4); those of Arch, Alpine and `make tar-pkg` are tar archives.
"""

from __future__ import annotations

import re
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from vm.compression import DAMAGED, format_of, opened
from vm.errors import Problem

#: How the names of package files end.
ENDS = r"\.(?:deb|rpm|apk|tgz|txz|tar(?:\.\w+)?)"
_AR, _RPM = b"!<arch>\n", b"\xed\xab\xee\xdb"
_RPM_HEADER = b"\x8e\xad\xe8\x01"
#: Bytes of an .rpm's lead, before the two headers.
_RPM_LEAD = 96
_CPIO = (b"070701", b"070702")
_CPIO_HEADER, _CPIO_END = 110, "TRAILER!!!"
_TAR_END = bytes(1024)
#: Bytes that are read at a time.
_CHUNK = 1 << 20
_AGAIN = "fetch or build it again"


@dataclass(frozen=True)
class _Member:
    """A regular file in a package."""

    #: Without a leading / or ./
    name: str
    contents: Iterator[bytes]
    #: For a hard link, the name of the member that has the contents.
    link: str = ""


class _Cut(ValueError):
    """An archive ends too early, or is none."""


def is_package(path: Path) -> bool:
    """Return whether *path* is named as packages are, or is a file that begins as one."""
    if re.search(f"{ENDS}$", path.name):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(8).startswith((_AR, _RPM))


def unpack(path: Path, folder: Path, place: Callable[[str], str]) -> bool:
    """Unpack regular files of the package *path* to where *place* says, by name; whether any.

    :param place: returns the path below *folder*, empty for a file that is not wanted.
    :raises Problem: it is no package, it is damaged, or a program to decompress it is missing.
    """
    written: dict[str, Path] = {}
    try:
        for member in _members(path.read_bytes()):
            name = place(member.name)
            if not name or (member.link and member.link not in written):
                continue
            target = written[member.name] = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                if member.link:
                    file.write(written[member.link].read_bytes())
                else:
                    file.writelines(member.contents)
    except (*DAMAGED, tarfile.TarError, struct.error) as error:
        raise Problem(f"{path}: a damaged package: {error}\nhint: {_AGAIN}") from None
    except Problem as problem:
        hint = problem.hint or _AGAIN
        raise Problem(f"{path}: {problem.what}\nhint: {hint}") from None
    return bool(written)


def _members(data: bytes) -> Iterator[_Member]:
    """Yield what is in the package *data*; contents are to be read before the next is asked for."""
    if data.startswith(_RPM):
        yield from _cpio(_rpm(data))
    else:
        yield from _tar(_deb(data) if data.startswith(_AR) else data)


def _deb(data: bytes) -> bytes:
    """The compressed tar archive with the files in the ar archive *data*."""
    at = len(_AR)
    while at < len(data):
        header = data[at : at + 60]
        if header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise _Cut(f"no member at byte {at}")
        name, size = header[:16].decode("ascii", "replace").strip(), int(header[48:58])
        at += 60
        if at + size > len(data):
            raise _Cut(f"{name.rstrip('/')} is cut")
        if name.startswith("data.tar"):
            return data[at : at + size]
        at += size + size % 2
    raise Problem("an archive, but not a package: no data.tar is in it\nhint: give a .deb")


def _rpm(data: bytes) -> bytes:
    """The compressed cpio archive in the .rpm *data*."""
    at = _RPM_LEAD
    for align in (8, 1):  # of the signatures, and of the package
        if data[at : at + 4] != _RPM_HEADER:
            raise _Cut(f"no header at byte {at}")
        entries, size = struct.unpack_from(">II", data, at + 8)
        at += 16 + 16 * entries + size
        at += -at % align
    if at >= len(data):
        raise _Cut("no contents")
    return data[at:]


def _tar(data: bytes) -> Iterator[_Member]:
    # As a stream: nothing is decompressed twice, or kept.
    with opened(data) as file, tarfile.open(fileobj=file, mode="r|") as archive:
        for info in archive:
            contents = archive.extractfile(info) if info.isreg() else None
            if contents is not None:
                yield _Member(_plain(info.name), _chunks(contents, info.size))
            elif info.islnk():
                yield _Member(_plain(info.name), iter(()), _plain(info.linkname))
    # tarfile lets that pass; where it is compressed, decompression does not.
    if format_of(data) is None and not data.endswith(_TAR_END):
        raise _Cut("the archive is cut")


def _cpio(data: bytes) -> Iterator[_Member]:
    with opened(data) as file:
        while True:
            header = file.read(_CPIO_HEADER)
            if header[:6] not in _CPIO:
                raise _Cut("no member of a cpio archive where one is to be")
            fields = [int(header[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
            mode, size, length = fields[1], fields[6], fields[11]
            name = file.read(length)[:-1].decode("utf-8", "surrogateescape")
            file.read(-(_CPIO_HEADER + length) % 4)
            if name == _CPIO_END:
                return
            contents = _chunks(file, size)
            if stat.S_ISREG(mode):
                yield _Member(_plain(name), contents)
            for _ in contents:
                pass  # what was not wanted
            file.read(-size % 4)


def _plain(name: str) -> str:
    return name.removeprefix(".").lstrip("/")


def _chunks(file: IO[bytes] | BufferedIOBase, size: int) -> Iterator[bytes]:
    while size:
        data = file.read(min(size, _CHUNK))
        if not data:
            raise _Cut("a file in it is cut")
        size -= len(data)
        yield data
