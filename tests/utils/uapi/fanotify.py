# SPDX-License-Identifier: GPL-2.0-only
"""Mount events of a namespace: fanotify(7) with FAN_MARK_MNTNS (Linux 6.15).

Source: ``linux/fanotify.h`` (Linux 7.3).
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
from enum import IntFlag

from tests.utils.uapi.constants import AT_FDCWD
from tests.utils.uapi.syscalls import c_path, checked

_libc = ctypes.CDLL(None, use_errno=True)

_FAN_CLOEXEC = 0x1
_FAN_NONBLOCK = 0x2
_FAN_REPORT_MNT = 0x4000
_FAN_MARK_ADD = 0x1
_FAN_MARK_FILESYSTEM = 0x100
_FAN_OPEN = 0x20
_FAN_ONDIR = 0x40000000
_FAN_MARK_MNTNS = 0x110
_FAN_EVENT_INFO_TYPE_MNT = 7

#: struct fanotify_event_metadata
_METADATA = struct.Struct("=IBBHQii")
#: struct fanotify_event_info_mnt, padded as the kernel's is
_INFO = struct.Struct("=BBH4xQ")


class MountEvent(IntFlag):
    """What happened to a mount."""

    FAN_MNT_ATTACH = 0x01000000
    FAN_MNT_DETACH = 0x02000000


FAN_MNT_ATTACH = MountEvent.FAN_MNT_ATTACH
FAN_MNT_DETACH = MountEvent.FAN_MNT_DETACH


def mount_watch(*ns_fds: int) -> int:
    """Return a descriptor on which the mount events of the namespaces *ns_fds* can be read.

    :raises OSError: EINVAL on kernels without FAN_REPORT_MNT; EPERM without privilege over the
        namespace.
    """
    group = checked(
        "fanotify_init",
        _libc.fanotify_init(
            ctypes.c_uint(_FAN_CLOEXEC | _FAN_NONBLOCK | _FAN_REPORT_MNT),
            ctypes.c_uint(os.O_RDONLY),
        ),
    )
    for ns_fd in ns_fds:
        watch_also(group, ns_fd)
    return group


def watch_also(group: int, ns_fd: int) -> None:
    """Have *group*, from :func:`mount_watch`, report the mount events of one more namespace."""
    result = _libc.fanotify_mark(
        ctypes.c_int(group),
        ctypes.c_uint(_FAN_MARK_ADD | _FAN_MARK_MNTNS),
        ctypes.c_uint64(FAN_MNT_ATTACH | FAN_MNT_DETACH),
        ctypes.c_int(ns_fd),
        ctypes.c_void_p(None),
    )
    checked("fanotify_mark(FAN_MARK_MNTNS)", result)


def fanotify_open_watch(path: str | os.PathLike[str], *, file_system: bool = False) -> int:
    """Return a descriptor that reports who opens *path* (FAN_OPEN).

    :param file_system: report who opens anything on its file system, directories too.
    :raises OSError: EPERM without CAP_SYS_ADMIN in the initial user namespace.
    """
    group = checked(
        "fanotify_init",
        _libc.fanotify_init(
            ctypes.c_uint(_FAN_CLOEXEC | _FAN_NONBLOCK), ctypes.c_uint(os.O_RDONLY)
        ),
    )
    result = _libc.fanotify_mark(
        ctypes.c_int(group),
        ctypes.c_uint(_FAN_MARK_ADD | (_FAN_MARK_FILESYSTEM if file_system else 0)),
        ctypes.c_uint64(_FAN_OPEN | (_FAN_ONDIR if file_system else 0)),
        ctypes.c_int(AT_FDCWD),
        c_path(path),
    )
    checked("fanotify_mark", result, path)
    return group


def opened_files(group: int) -> list[int]:
    """Return the descriptors of a :func:`fanotify_open_watch`: each is on what somebody opened, by
    the mount it was opened through."""
    fds, data = [], os.read(group, 4096)
    while data:
        length, _, _, _, _, fd, _ = _METADATA.unpack_from(data)
        fds.append(fd)
        data = data[length:]
    return fds


def mount_events(group: int, seconds: float = 0) -> list[tuple[MountEvent, int]]:
    """Return the events that wait on *group*: what happened, and the id of the mount.

    :param seconds: how long to wait for a first one.
    """
    events: list[tuple[MountEvent, int]] = []
    while select.select([group], [], [], 0 if events else seconds)[0]:
        data = os.read(group, 4096)
        while data:
            length, _, _, start, mask, _, _ = _METADATA.unpack_from(data)
            kind, _, _, mnt_id = _INFO.unpack_from(data, start)
            if kind != _FAN_EVENT_INFO_TYPE_MNT:
                raise AssertionError(f"event with unknown information {kind}")
            events.append((MountEvent(mask), mnt_id))
            data = data[length:]
    return events
