# SPDX-License-Identifier: GPL-2.0-only
"""A file whose first page arrives when the case says so: a FUSE file system of one regular file.

Whoever touches a mapping of it waits in a page fault until :meth:`SlowFile.release`. Source:
``linux/fuse.h`` (Linux 7.3); the root of the file system is the file, so that nothing has to be
looked up.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
from pathlib import Path

from tests.utils.uapi.syscalls import mount

SIZE = 4096

_IN = struct.Struct("=IIQQIIIHH")
_OUT = struct.Struct("=IiQ")
_ATTR = struct.Struct("=QII 6Q 10I")
_FORGET, _GETATTR, _OPEN, _READ, _INIT, _INTERRUPT, _BATCH_FORGET = 2, 3, 14, 15, 26, 36, 42
_UNANSWERED = (_FORGET, _INTERRUPT, _BATCH_FORGET)


class SlowFile:
    """The file at *path* (made when missing), served by the caller."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=100000,user_id={os.getuid()},group_id={os.getgid()}"
        mount("slow", path, "fuse", 0, options)
        self._read: int | None = None

    def serve_until_read(self, seconds: float) -> bool:
        """Answer requests until one for the file's content comes, which is left waiting.

        Return False when none came in *seconds* after the last request.
        """
        while select.select([self._device], [], [], seconds)[0]:
            request = os.read(self._device, 1 << 17)
            _, opcode, unique, *_ = _IN.unpack_from(request)
            if opcode == _READ:
                self._read = unique
                return True
            if opcode not in _UNANSWERED:
                self._answer(unique, self._answer_to(opcode))
        return False

    def release(self) -> None:
        """Let the waiting reader have a page of zeros."""
        if self._read is not None:
            self._answer(self._read, bytes(SIZE))
            self._read = None

    def close(self) -> None:
        """Stop serving, here; when nobody serves it any more all requests end in an error."""
        if self._device >= 0:
            os.close(self._device)
        self._device = -1

    def _answer(self, unique: int, payload: bytes) -> None:
        os.write(self._device, _OUT.pack(_OUT.size + len(payload), 0, unique) + payload)

    @staticmethod
    def _answer_to(opcode: int) -> bytes:
        if opcode == _INIT:
            # Version 7.31, no options, one page at a time.
            return struct.pack("=4I2H2I2H", 7, 31, 0, 0, 0, 0, SIZE, 1, 1, 0).ljust(64, b"\0")
        if opcode == _GETATTR:
            mode = stat.S_IFREG | 0o666
            times = [0] * 6
            return _ATTR.pack(
                60, 0, 0, 1, SIZE, 8, *times[:3], *times[3:], mode, 1, 0, 0, 0, SIZE, 0
            )
        if opcode == _OPEN:
            return struct.pack("=QII", 0, 0, 0)
        return b""


class HoldingDirectory:
    """A FUSE file system of one directory at *path*, served by the caller, which can hold files of
    other file systems open: those it would pass reads and writes on to (FUSE_PASSTHROUGH, Linux
    6.9).

    Its superblock keeps them as long as it lives; to register one takes CAP_SYS_ADMIN in the
    initial user namespace.
    """

    _INIT_EXT, _PASSTHROUGH = 1 << 30, 1 << (37 - 32)  # the latter in the second word of flags
    _BACKING_OPEN = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map)

    def __init__(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={self._device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
        mount("holder", path, "fuse", 0, options)
        request = os.read(self._device, 1 << 17)
        reply = struct.pack(
            "=4I2H2I2H2IH22x",
            *(7, 40, 0, self._INIT_EXT, 0, 0, SIZE, 1, 1, 0, self._PASSTHROUGH, 1, 0),
        )
        unique = _IN.unpack_from(request)[2]
        os.write(self._device, _OUT.pack(_OUT.size + len(reply), 0, unique) + reply)

    def hold(self, fd: int) -> None:
        """Have the superblock hold the open file *fd*.

        :raises OSError: EPERM without privilege, or from a kernel without FUSE_PASSTHROUGH.
        """
        fcntl.ioctl(self._device, self._BACKING_OPEN, struct.pack("=iIQ", fd, 0, 0))

    def close(self) -> None:
        """Stop serving."""
        os.close(self._device)
