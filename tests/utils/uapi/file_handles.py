# SPDX-License-Identifier: GPL-2.0-only
"""File handles: name_to_handle_at(2) and open_by_handle_at(2).

A handle is bytes that name an inode of a file system, or a namespace on nsfs; it holds nothing.
Sources: open_by_handle_at(2), ``linux/fcntl.h`` and ``linux/nsfs.h`` (Linux 7.3).
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

from tests.utils.uapi.constants import AT_EMPTY_PATH
from tests.utils.uapi.syscalls import PathLike, c_path, checked

_libc = ctypes.CDLL(None, use_errno=True)

#: open_by_handle_at(2): the file system of namespaces, where no mount of it is at hand (6.18).
FD_NSFS_ROOT = -10003

#: MAX_HANDLE_SZ
_MOST = 128
#: struct file_handle: bytes that follow, kind.
_HEAD = struct.Struct("=Ii")
_NSFS = struct.Struct("=QII")


class FileHandle(bytes):
    """``struct file_handle`` as a value; in the text of a call, its kind and size."""

    def __repr__(self) -> str:
        size, kind = _HEAD.unpack_from(self)
        return f"<handle of kind {kind:#x}, {size} bytes>"


class NsfsFileHandle(NamedTuple):
    """``struct nsfs_file_handle``, the handle of a namespace, and the kind that goes with it."""

    handle_type: int
    ns_id: int
    ns_type: int
    ns_inum: int

    @classmethod
    def of(cls, handle: FileHandle) -> NsfsFileHandle:
        """Return what the *handle* of a namespace says."""
        return cls(_HEAD.unpack_from(handle)[1], *_NSFS.unpack_from(handle, _HEAD.size))

    def handle(self, more: bytes = b"", less: int = 0) -> FileHandle:
        """Return the handle that says this, with *more* behind it, or *less* bytes shorter."""
        body = _NSFS.pack(self.ns_id, self.ns_type, self.ns_inum) + more
        body = body[: len(body) - less]
        return FileHandle(_HEAD.pack(len(body), self.handle_type) + body)


def name_to_handle_at(dirfd: int, path: PathLike = "", flags: int = AT_EMPTY_PATH) -> FileHandle:
    """name_to_handle_at(2): return the handle of a file, by default of what *dirfd* is open on."""
    buffer = ctypes.create_string_buffer(_HEAD.pack(_MOST, 0), _HEAD.size + _MOST)
    mount_id = ctypes.c_int()
    result = _libc.name_to_handle_at(
        ctypes.c_int(dirfd), c_path(path), buffer, ctypes.byref(mount_id), ctypes.c_int(flags)
    )
    checked("name_to_handle_at", result, path)
    return FileHandle(buffer.raw[: _HEAD.size + _HEAD.unpack_from(buffer)[0]])


def open_by_handle_at(mount_fd: int, handle: FileHandle, flags: int = os.O_RDONLY) -> int:
    """open_by_handle_at(2): open what *handle* names.

    :param mount_fd: a descriptor on the mount through which it is opened, or FD_NSFS_ROOT.
    :raises OSError: ESTALE where the handle names nothing, or nothing the caller may open; EPERM
        where the caller may open nothing by handle there.
    """
    return checked(
        "open_by_handle_at",
        _libc.open_by_handle_at(ctypes.c_int(mount_fd), bytes(handle), ctypes.c_int(flags)),
    )
