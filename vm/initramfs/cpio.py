# SPDX-License-Identifier: GPL-2.0-only
"""Writes initramfs archives in the cpio "newc" format, and reads their table of contents.

The format is the kernel's Documentation/driver-api/early-userspace/buffer-format.rst: a header of
thirteen eight-digit hexadecimal numbers, the name, the data, each padded to four bytes. The
kernel unpacks archives that follow one another, so that a large cached one and a small one of the
run's own make one image. Not compressed: unpacking under emulation costs more than it saves.
"""

from __future__ import annotations

import stat
from typing import BinaryIO

_MAGIC = b"070701"
_TRAILER = "TRAILER!!!"


def _padding(size: int) -> bytes:
    return b"\0" * (-size % 4)


class Archive:
    """One newc archive written to *stream*; close() ends it. Parent folders make themselves."""

    def __init__(self, stream: BinaryIO, mtime: int = 0) -> None:
        self._stream = stream
        self._mtime = mtime
        self._inode = 0
        self.names: set[str] = set()

    def _entry(self, name: str, mode: int, data: bytes, rdev: tuple[int, int] = (0, 0)) -> None:
        self._inode += 1
        encoded = name.encode("utf-8", "surrogateescape") + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (
            *(self._inode, mode, 0, 0, links, self._mtime, len(data)),
            *(0, 0, *rdev, len(encoded), 0),
        )
        header = _MAGIC + b"".join(b"%08X" % field for field in fields) + encoded
        self._stream.write(header + _padding(len(header)))
        self._stream.write(data)
        self._stream.write(_padding(len(data)))

    def _claim(self, path: str) -> str | None:
        """The archive's name for the absolute *path*, None when it is there already."""
        name = path.strip("/")
        if not name or name in self.names:
            return None
        parent = name.rpartition("/")[0]
        if parent:
            self.folder(parent)
        self.names.add(name)
        return name

    def folder(self, path: str, mode: int = 0o755) -> None:
        """Add a folder."""
        if (name := self._claim(path)) is not None:
            self._entry(name, stat.S_IFDIR | mode, b"")

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file with the contents *data*."""
        if (name := self._claim(path)) is not None:
            self._entry(name, stat.S_IFREG | mode, data)

    def symlink(self, path: str, target: str) -> None:
        """Add a symbolic link to *target*."""
        if (name := self._claim(path)) is not None:
            self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """Add a character device node: needs no privilege, it is only a record in the archive."""
        if (name := self._claim(path)) is not None:
            self._entry(name, stat.S_IFCHR | 0o600, b"", (major, minor))

    def close(self) -> None:
        """End the archive; another one may follow in the same stream."""
        self._entry(_TRAILER, 0, b"")
