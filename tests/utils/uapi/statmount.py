# SPDX-License-Identifier: GPL-2.0-only
"""What is mounted where: listmount(2) and statmount(2) as plain values.

Both calls take a namespace as nothing (the caller's own), a 64-bit namespace id, or a descriptor
of the namespace. Lists are fetched page by page, so that no table is too long.
Sources: listmount(2), statmount(2), ``linux/mount.h`` (Linux 7.3).
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from typing import NamedTuple

from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    LISTMOUNT_REVERSE,
    LSMT_ROOT,
    STATMOUNT_BY_FD,
    MountAttr,
    MountFlags,
    Statmount,
)
from tests.utils.uapi.syscalls import NR_LISTMOUNT, NR_STATMOUNT, c_path, checked, syscall

#: Everything this module turns into a :class:`Mount`.
STATMOUNT_ALL = (
    Statmount.STATMOUNT_SB_BASIC
    | Statmount.STATMOUNT_MNT_BASIC
    | Statmount.STATMOUNT_MNT_ROOT
    | Statmount.STATMOUNT_MNT_POINT
    | Statmount.STATMOUNT_FS_TYPE
    | Statmount.STATMOUNT_SB_SOURCE
    | Statmount.STATMOUNT_MNT_NS_ID
    | Statmount.STATMOUNT_MNT_UIDMAP
    | Statmount.STATMOUNT_MNT_GIDMAP
)

# As plain numbers, and the values of enumerations looked up once: a table of mounts is read in most
# cases, and a member's own operators cost more than the call.
_FS_TYPE = int(Statmount.STATMOUNT_FS_TYPE)
_SB_SOURCE = int(Statmount.STATMOUNT_SB_SOURCE)
_MNT_ROOT = int(Statmount.STATMOUNT_MNT_ROOT)
_MNT_POINT = int(Statmount.STATMOUNT_MNT_POINT)
_MNT_UIDMAP = int(Statmount.STATMOUNT_MNT_UIDMAP)
_MNT_GIDMAP = int(Statmount.STATMOUNT_MNT_GIDMAP)
_ENCODING, _ERRORS = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_mount_attr = functools.cache(MountAttr)
_mount_flags = functools.cache(MountFlags)


class MntIdReq(ctypes.Structure):
    """``struct mnt_id_req``: the second version, 32 bytes."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("mnt_ns_fd", ctypes.c_uint32),
        ("mnt_id", ctypes.c_uint64),
        ("param", ctypes.c_uint64),
        ("mnt_ns_id", ctypes.c_uint64),
    )


class StatmountStruct(ctypes.Structure):
    """``struct statmount``: the fixed part, 512 bytes; strings follow it."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("mnt_opts", ctypes.c_uint32),
        ("mask", ctypes.c_uint64),
        ("sb_dev_major", ctypes.c_uint32),
        ("sb_dev_minor", ctypes.c_uint32),
        ("sb_magic", ctypes.c_uint64),
        ("sb_flags", ctypes.c_uint32),
        ("fs_type", ctypes.c_uint32),
        ("mnt_id", ctypes.c_uint64),
        ("mnt_parent_id", ctypes.c_uint64),
        ("mnt_id_old", ctypes.c_uint32),
        ("mnt_parent_id_old", ctypes.c_uint32),
        ("mnt_attr", ctypes.c_uint64),
        ("mnt_propagation", ctypes.c_uint64),
        ("mnt_peer_group", ctypes.c_uint64),
        ("mnt_master", ctypes.c_uint64),
        ("propagate_from", ctypes.c_uint64),
        ("mnt_root", ctypes.c_uint32),
        ("mnt_point", ctypes.c_uint32),
        ("mnt_ns_id", ctypes.c_uint64),
        ("fs_subtype", ctypes.c_uint32),
        ("sb_source", ctypes.c_uint32),
        ("opt_num", ctypes.c_uint32),
        ("opt_array", ctypes.c_uint32),
        ("opt_sec_num", ctypes.c_uint32),
        ("opt_sec_array", ctypes.c_uint32),
        ("supported_mask", ctypes.c_uint64),
        ("mnt_uidmap_num", ctypes.c_uint32),
        ("mnt_uidmap", ctypes.c_uint32),
        ("mnt_gidmap_num", ctypes.c_uint32),
        ("mnt_gidmap", ctypes.c_uint32),
        ("spare2", ctypes.c_uint64 * 43),
    )


class Mount(NamedTuple):
    """One mount as statmount(2) describes it; field names are the kernel's.

    ``mnt_point`` is None where the kernel gives none (the hidden base of a namespace, or a mount
    that cannot be reached from the caller's root). ``mnt_root`` and ``mnt_point`` are raw: no
    escapes, unlike ``/proc/PID/mountinfo``.
    """

    mnt_id: int
    mnt_parent_id: int
    mnt_id_old: int
    mnt_parent_id_old: int
    mnt_ns_id: int
    fs_type: str
    sb_source: str
    sb_magic: int
    sb_dev: tuple[int, int]
    sb_flags: int
    mnt_attr: MountAttr
    mnt_propagation: MountFlags
    mnt_peer_group: int
    mnt_master: int
    mnt_root: str
    mnt_point: str | None
    uidmap: tuple[str, ...]
    gidmap: tuple[str, ...]


def _request(mnt_id: int, param: int, ns_id: int, ns_fd: int) -> MntIdReq:
    return MntIdReq(ctypes.sizeof(MntIdReq), max(ns_fd, 0), mnt_id, param, ns_id)


def listmount(
    mnt_id: int = LSMT_ROOT,
    *,
    ns_id: int = 0,
    ns_fd: int = -1,
    reverse: bool = False,
    page: int = 512,
) -> list[int]:
    """listmount(2): the ids of the mounts below *mnt_id*, itself left out.

    :param ns_id: the namespace by its 64-bit id; 0 is the caller's.
    :param ns_fd: the namespace by descriptor; -1 for none (0 cannot be passed: it means none).
    :param page: how many ids to fetch in one call.
    """
    ids: list[int] = []
    while True:
        after = ids[-1] if ids else 0
        got = listmount_page(mnt_id, after, page, ns_id=ns_id, ns_fd=ns_fd, reverse=reverse)
        ids += got
        if len(got) < page:
            return ids


def listmount_page(
    mnt_id: int = LSMT_ROOT,
    after: int = 0,
    count: int = 512,
    *,
    ns_id: int = 0,
    ns_fd: int = -1,
    reverse: bool = False,
) -> list[int]:
    """Call listmount(2) once: up to *count* ids that come after the id *after*."""
    buffer = (ctypes.c_uint64 * count)()
    request = _request(mnt_id, after, ns_id, ns_fd)
    got = syscall(
        "listmount",
        NR_LISTMOUNT,
        ctypes.byref(request),
        buffer,
        ctypes.c_size_t(count),
        ctypes.c_uint(LISTMOUNT_REVERSE if reverse else 0),
    )
    return buffer[:got]


def statmount(mnt_id: int, *, ns_id: int = 0, ns_fd: int = -1, mask: int = STATMOUNT_ALL) -> Mount:
    """statmount(2): one mount. See :func:`listmount` for the namespace arguments."""
    size = 1024  # enough for most, and each byte of it is cleared and copied
    while True:
        buffer = ctypes.create_string_buffer(size)
        try:
            statmount_into(buffer, size, mnt_id, mask, ns_id=ns_id, ns_fd=ns_fd)
        except OSError as error:
            if error.errno != errno.EOVERFLOW or size > 1 << 20:
                raise
            size *= 4
            continue
        return _mount(buffer.raw)


def statmount_by_fd(
    fd: int, *, mnt_id: int = 0, ns_id: int = 0, mask: int = STATMOUNT_ALL
) -> Mount:
    """statmount(2) with STATMOUNT_BY_FD (Linux 7.0): the mount that *fd* is open on.

    ``mnt_point`` is None, and ``mnt_ns_id`` 0, for one that is unmounted. The ids are no arguments
    of this form.

    :raises OSError: EINVAL on older kernels; for a mount of the kernel's own; with an id.
    """
    size = 16384
    buffer = ctypes.create_string_buffer(size)
    statmount_into(buffer, size, mnt_id, mask, ns_id=ns_id, ns_fd=fd, flags=STATMOUNT_BY_FD)
    return _mount(buffer.raw)


def statmount_into(
    buffer: ctypes.Array[ctypes.c_char],
    size: int,
    mnt_id: int,
    mask: int,
    *,
    ns_id: int = 0,
    ns_fd: int = -1,
    flags: int = 0,
) -> None:
    """Call statmount(2) once, which may write *size* bytes of *buffer*.

    :param flags: STATMOUNT_BY_FD, by which *ns_fd* is a descriptor on the mount itself.
    :raises OSError: EOVERFLOW when the answer does not fit.
    """
    request = _request(mnt_id, int(mask), ns_id, ns_fd)
    syscall(
        "statmount",
        NR_STATMOUNT,
        ctypes.byref(request),
        buffer,
        ctypes.c_size_t(size),
        ctypes.c_uint(flags),
    )


def _mount(raw: bytes) -> Mount:
    fixed = StatmountStruct.from_buffer_copy(raw)
    strings = raw[ctypes.sizeof(StatmountStruct) :]

    def text(offset: int) -> str:
        return strings[offset : strings.index(b"\0", offset)].decode(_ENCODING, _ERRORS)

    def texts(offset: int, count: int) -> tuple[str, ...]:
        parts = strings[offset:].split(b"\0")[:count]
        return tuple(part.decode(_ENCODING, _ERRORS) for part in parts)

    got = fixed.mask
    return Mount(
        mnt_id=fixed.mnt_id,
        mnt_parent_id=fixed.mnt_parent_id,
        mnt_id_old=fixed.mnt_id_old,
        mnt_parent_id_old=fixed.mnt_parent_id_old,
        mnt_ns_id=fixed.mnt_ns_id,
        fs_type=text(fixed.fs_type) if got & _FS_TYPE else "",
        sb_source=text(fixed.sb_source) if got & _SB_SOURCE else "",
        sb_magic=fixed.sb_magic,
        sb_dev=(fixed.sb_dev_major, fixed.sb_dev_minor),
        sb_flags=fixed.sb_flags,
        mnt_attr=_mount_attr(fixed.mnt_attr),
        mnt_propagation=_mount_flags(fixed.mnt_propagation),
        mnt_peer_group=fixed.mnt_peer_group,
        mnt_master=fixed.mnt_master,
        mnt_root=text(fixed.mnt_root) if got & _MNT_ROOT else "",
        mnt_point=text(fixed.mnt_point) if got & _MNT_POINT else None,
        uidmap=texts(fixed.mnt_uidmap, fixed.mnt_uidmap_num) if got & _MNT_UIDMAP else (),
        gidmap=texts(fixed.mnt_gidmap, fixed.mnt_gidmap_num) if got & _MNT_GIDMAP else (),
    )


def mount_table(*, ns_id: int = 0, ns_fd: int = -1, tolerant: bool = False) -> list[Mount]:
    """Return every listed mount of a namespace, in the order of listmount(2) (ascending ids).

    :param tolerant: leave out what is gone before it is described: for a table in which others
        than the caller mount and unmount, such as the machine's own. In that of a case it is a
        fault of the kernel that a mount is listed and not there.
    :raises OSError: ENOENT where a mount is gone, unless *tolerant*.
    """
    table = []
    for mnt_id in listmount(ns_id=ns_id, ns_fd=ns_fd):
        try:
            table.append(statmount(mnt_id, ns_id=ns_id, ns_fd=ns_fd))
        except OSError as error:
            if not tolerant or error.errno != errno.ENOENT:
                raise
    return table


_STATX_MNT_ID_UNIQUE = 0x4000
_STATX_SIZE = 256
_STX_MNT_ID_OFFSET = 0x90


def mnt_id_of(path: str | os.PathLike[str] | int) -> int:
    """Return the unique id of the mount a path (or a descriptor) is on:
    statx(STATX_MNT_ID_UNIQUE)."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    fd, name = (path, "") if isinstance(path, int) else (AT_FDCWD, os.fspath(path))
    flags = AT_EMPTY_PATH if isinstance(path, int) else 0
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.statx(
        ctypes.c_int(fd), c_path(name), ctypes.c_int(flags), _STATX_MNT_ID_UNIQUE, buffer
    )
    checked("statx", result, path)
    return ctypes.c_uint64.from_buffer_copy(buffer.raw, _STX_MNT_ID_OFFSET).value
