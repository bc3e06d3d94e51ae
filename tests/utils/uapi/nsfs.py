# SPDX-License-Identifier: GPL-2.0-only
"""Namespace handles: the ioctls of nsfs files and listns(2).

Sources: ``linux/nsfs.h`` (Linux 7.3) and ioctl_nsfs(2).
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import struct
from dataclasses import dataclass

from tests.utils.uapi.constants import CLONE_NEWNS
from tests.utils.uapi.statmount import listmount_page
from tests.utils.uapi.syscalls import NR_LISTNS, checked, syscall

_libc = ctypes.CDLL(None, use_errno=True)

_NSIO = 0xB7


def _io(number: int) -> int:
    return _NSIO << 8 | number


def _ior(number: int, size: int) -> int:
    return 2 << 30 | size << 16 | _NSIO << 8 | number


# _IO() differs on the architectures below, where "no direction" is a bit of its own; they are
# the same ones on which _IOC_READ is another bit (asm/ioctl.h of alpha, mips, powerpc, sparc).
if os.uname().machine.startswith(("alpha", "mips", "ppc", "sparc")):  # pragma: no cover

    def _io(number: int) -> int:
        return 1 << 29 | _NSIO << 8 | number

    def _ior(number: int, size: int) -> int:
        return 2 << 29 | size << 16 | _NSIO << 8 | number


_MNT_NS_INFO = struct.Struct("=IIQ")

NS_GET_USERNS = _io(0x1)
NS_GET_PARENT = _io(0x2)
NS_GET_NSTYPE = _io(0x3)
NS_GET_OWNER_UID = _io(0x4)
NS_GET_MNTNS_ID = _ior(5, 8)
NS_MNT_GET_INFO = _ior(10, _MNT_NS_INFO.size)
NS_MNT_GET_NEXT = _ior(11, _MNT_NS_INFO.size)
NS_MNT_GET_PREV = _ior(12, _MNT_NS_INFO.size)
NS_GET_ID = _ior(13, 8)

_NAMES = {number: name for name, number in dict(globals()).items() if name.startswith("NS_")}


def _call_of(request: int) -> str:
    return f"ioctl({_NAMES.get(request, hex(request))})"


def _ioctl(fd: int, request: int, argument: int | bytearray | array.array[int] = 0) -> int:
    """fcntl.ioctl(), whose error names the request."""
    try:
        return fcntl.ioctl(fd, request, argument)
    except OSError as error:
        number = error.errno or 0
        raise OSError(number, f"{_call_of(request)}: {os.strerror(number)}") from None


@dataclass(frozen=True, slots=True)
class MntNsInfo:
    """``struct mnt_ns_info``: what NS_MNT_GET_INFO says of a mount namespace.

    ``nr_mounts`` leaves out the namespace's hidden base mount.
    """

    size: int
    nr_mounts: int
    mnt_ns_id: int


def ns_ioctl(fd: int, request: int) -> int:
    """Make an nsfs ioctl without an argument. Return its result (a type, or a new descriptor)."""
    return _ioctl(fd, request)


def ns_get_userns(fd: int) -> int:
    """NS_GET_USERNS: a descriptor of the user namespace that owns *fd*'s namespace.

    :raises PermissionError: the owner is outside the caller's user namespace.
    """
    return ns_ioctl(fd, NS_GET_USERNS)


def ns_get_nstype(fd: int) -> int:
    """NS_GET_NSTYPE: the ``CLONE_NEW*`` value of the namespace."""
    return ns_ioctl(fd, NS_GET_NSTYPE)


def ns_id(fd: int, request: int = NS_GET_MNTNS_ID) -> int:
    """Return the 64-bit id of a namespace: NS_GET_MNTNS_ID, or NS_GET_ID when asked."""
    buffer = array.array("Q", [0])
    _ioctl(fd, request, buffer)
    return buffer[0]


def mnt_get_info(fd: int) -> MntNsInfo:
    """NS_MNT_GET_INFO of the mount namespace *fd*."""
    buffer = bytearray(_MNT_NS_INFO.size)
    _ioctl(fd, NS_MNT_GET_INFO, buffer)
    return MntNsInfo(*_MNT_NS_INFO.unpack(buffer))


def mnt_get_neighbour(fd: int, request: int) -> tuple[int, MntNsInfo]:
    """NS_MNT_GET_NEXT or NS_MNT_GET_PREV: a descriptor of the neighbour, and what it is.

    The descriptor pins the neighbour: close it.

    :raises OSError: ENOENT at the end of the list; EPERM unless the caller is privileged in the
        initial user and PID namespaces.
    """
    buffer = (ctypes.c_char * _MNT_NS_INFO.size)()
    result = _libc.ioctl(ctypes.c_int(fd), ctypes.c_ulong(request), buffer)
    neighbour = checked(_call_of(request), int(result))
    return neighbour, MntNsInfo(*_MNT_NS_INFO.unpack(buffer.raw))


def current_mnt_ns() -> int:
    """Return a descriptor of the caller's own mount namespace."""
    return os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def ns_inode(fd_or_path: int | str) -> tuple[int, int]:
    """Return what tells one namespace from another: the device and inode number of its nsfs
    file."""
    status = os.stat(fd_or_path)
    return status.st_dev, status.st_ino


class NsIdReq(ctypes.Structure):
    """``struct ns_id_req`` (``linux/nsfs.h``), first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("spare", ctypes.c_uint32),
        ("ns_id", ctypes.c_uint64),
        ("ns_type", ctypes.c_uint32),
        ("spare2", ctypes.c_uint32),
        ("user_ns_id", ctypes.c_uint64),
    )


def listns(kinds: int = CLONE_NEWNS, *, page: int = 256) -> list[int]:
    """listns(2): the ids of the namespaces of *kinds* the caller may see, ascending.

    :raises OSError: ENOSYS on kernels without the call (before 6.19).
    """
    ids: list[int] = []
    while True:
        try:
            got = listns_page(ids[-1] if ids else 0, page, kinds)
        except OSError as error:
            # How a list ends whose last page is full.
            if ids and error.errno == errno.ENOENT:
                return ids
            raise
        ids += got
        if len(got) < page:
            return ids


def listns_page(after: int, count: int, kinds: int = CLONE_NEWNS, user_ns_id: int = 0) -> list[int]:
    """Call listns(2) once: up to *count* ids larger than *after*, all owners' or one's.

    :raises OSError: ENOENT when no namespace has a larger id.
    """
    buffer = (ctypes.c_uint64 * count)()
    request = NsIdReq(ctypes.sizeof(NsIdReq), 0, after, int(kinds), 0, 0)
    got = syscall(
        "listns",
        NR_LISTNS,
        ctypes.byref(request),
        buffer,
        ctypes.c_size_t(count),
        ctypes.c_uint(0),
    )
    return buffer[:got]


def exists(mnt_ns_id: int) -> bool:
    """Return whether a mount namespace with this id exists, for a caller privileged over its
    owner."""
    try:
        listmount_page(ns_id=mnt_ns_id, count=1)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
