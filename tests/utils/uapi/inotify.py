# SPDX-License-Identifier: GPL-2.0-only
"""Whether a file system still lives: inotify(7) reports the end of what it watches.

A watch holds no mount and no file system. When the last mount of a file system is gone, and the
file system with it, each watched inode gets IN_UNMOUNT. Source: ``linux/inotify.h``.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct

from tests.utils.uapi.syscalls import c_path, checked

_libc = ctypes.CDLL(None, use_errno=True)

_IN_DELETE_SELF = 0x400
_IN_UNMOUNT = 0x2000
_EVENT = struct.Struct("=iIII")


def inotify_watch(path: str | os.PathLike[str]) -> int:
    """Return a descriptor that tells the end of the file system *path* is on (see
    :func:`is_gone`)."""
    fd = checked("inotify_init1", _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    # Some event has to be asked for; IN_UNMOUNT comes unasked.
    wanted = ctypes.c_uint32(_IN_DELETE_SELF)
    checked("inotify_add_watch", _libc.inotify_add_watch(fd, c_path(path), wanted), path)
    return fd


def is_gone(fd: int, seconds: float = 2) -> bool:
    """Return whether the file system of the watch *fd* has ended, or does so within *seconds*:
    the kernel may leave the work to a thread of its own. Asking takes the answer away."""
    if not select.select([fd], [], [], seconds)[0]:
        return False
    data = os.read(fd, 4096)
    masks = []
    while data:
        _, mask, _, length = _EVENT.unpack_from(data)
        masks.append(mask)
        data = data[_EVENT.size + length :]
    return any(mask & _IN_UNMOUNT for mask in masks)
