# SPDX-License-Identifier: GPL-2.0-only
"""Checked system calls: each raises ``OSError(errno, call, path)`` when the kernel refuses.

Thin by design: arguments go to the kernel as they are, so that a case can pass what a careful
wrapper would refuse. Calls without a C library wrapper go through syscall(2); numbers from 424 on
are common to all architectures but alpha. File descriptors are returned as plain integers: a case
runs in a process of its own, which closes them by ending.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.utils.uapi.constants import AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH, OpenTree

#: What a path argument may be: text, bytes, a path object, None for NULL, an int for an address.
PathLike = str | bytes | os.PathLike[str] | int | None

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

_COMMON = 110 if platform.machine() == "alpha" else 0
NR_OPEN_TREE = 428 + _COMMON
NR_MOVE_MOUNT = 429 + _COMMON
NR_FSOPEN = 430 + _COMMON
NR_FSCONFIG = 431 + _COMMON
NR_FSMOUNT = 432 + _COMMON
NR_FSPICK = 433 + _COMMON
NR_MOUNT_SETATTR = 442 + _COMMON
NR_STATMOUNT = 457 + _COMMON
NR_LISTMOUNT = 458 + _COMMON
NR_OPEN_TREE_ATTR = 467 + _COMMON
NR_LISTNS = 470 + _COMMON
NR_FCHROOT = 472 + _COMMON

#: fchroot(2): a root in which nothing can be looked up (``linux/fcntl.h``, Linux 7.3).
FD_FAILFS_ROOT = -10004


class MountAttrStruct(ctypes.Structure):
    """``struct mount_attr`` (``linux/mount.h``), 32 bytes in its first version."""

    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def checked(call: str, result: int, path: object = None) -> int:
    """Return *result*, or raise the errno of the C call just made.

    :param call: the name of the system call, which becomes the error's text.
    :param path: what the call was about; shown in the error when given.
    """
    if result >= 0:
        return result
    number = ctypes.get_errno()
    text = f"{call}: {os.strerror(number)}"
    if path is None:
        raise OSError(number, text)
    raise OSError(number, text, path if isinstance(path, str | bytes) else str(path))


def syscall(call: str, number: int, *arguments: Any, path: object = None) -> int:
    """Make system call *number* with C arguments (see :func:`checked` for errors)."""
    return checked(call, int(_libc.syscall(ctypes.c_long(number), *arguments)), path)


def c_path(path: PathLike) -> ctypes.c_void_p | ctypes.c_char_p:
    """Return a path argument as a C pointer: None is NULL, an int is taken as an address."""
    if path is None or isinstance(path, int):
        return ctypes.c_void_p(path)
    return ctypes.c_char_p(os.fsencode(path))


def open_tree(dirfd: int, path: PathLike, flags: int) -> int:
    """open_tree(2). Return a file descriptor."""
    return syscall(
        f"open_tree({_flags(flags)})",
        NR_OPEN_TREE,
        ctypes.c_long(dirfd),
        c_path(path),
        # As 64 bits: what the kernel makes of the upper half is one of the rules.
        ctypes.c_ulong(flags),
        path=path,
    )


#: Plain numbers: what a call is named after it is made must not cost more than the call.
_OPEN_TREE_FLAGS = {int(flag): str(flag.name) for flag in OpenTree}


def _flags(flags: int) -> str:
    unknown, names = int(flags), []
    for bit, name in _OPEN_TREE_FLAGS.items():
        if unknown & bit == bit:
            unknown &= ~bit
            names.append(name)
    return "|".join([*names, hex(unknown)] if unknown else names) or "0"


def open_tree_attr(dirfd: int, path: PathLike, flags: int, attr: Any, size: int) -> int:
    """open_tree_attr(2) (Linux 6.15): open_tree(2) followed by mount_setattr(2)."""
    return syscall(
        "open_tree_attr",
        NR_OPEN_TREE_ATTR,
        ctypes.c_long(dirfd),
        c_path(path),
        ctypes.c_ulong(flags),
        ctypes.byref(attr) if attr is not None else ctypes.c_void_p(None),
        ctypes.c_size_t(size),
        path=path,
    )


def move_mount(from_fd: int, from_path: PathLike, to_fd: int, to_path: PathLike, flags: int) -> int:
    """move_mount(2)."""
    return syscall(
        "move_mount",
        NR_MOVE_MOUNT,
        ctypes.c_long(from_fd),
        c_path(from_path),
        ctypes.c_long(to_fd),
        c_path(to_path),
        ctypes.c_ulong(flags),
        path=to_path,
    )


def attach(tree_fd: int, path: PathLike) -> None:
    """Attach the detached tree *tree_fd* at *path* (move_mount(2))."""
    move_mount(tree_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH)


def fsopen(fs_name: str, flags: int = 0) -> int:
    """fsopen(2)."""
    return syscall(
        "fsopen", NR_FSOPEN, ctypes.c_char_p(fs_name.encode()), ctypes.c_ulong(flags), path=fs_name
    )


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """fsconfig(2) with string arguments."""
    syscall(
        "fsconfig",
        NR_FSCONFIG,
        ctypes.c_long(fd),
        ctypes.c_ulong(command),
        c_path(key),
        c_path(value),
        ctypes.c_long(0),
    )


def fsmount(fd: int, flags: int = 0, attr_flags: int = 0) -> int:
    """fsmount(2)."""
    return syscall(
        "fsmount",
        NR_FSMOUNT,
        ctypes.c_long(fd),
        ctypes.c_ulong(flags),
        ctypes.c_ulong(attr_flags),
    )


def fspick(dirfd: int, path: PathLike, flags: int = 0) -> int:
    """fspick(2)."""
    return syscall(
        "fspick",
        NR_FSPICK,
        ctypes.c_long(dirfd),
        c_path(path),
        ctypes.c_ulong(flags),
        path=path,
    )


def mount_setattr(
    dirfd: int,
    path: PathLike,
    flags: int = 0,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
) -> None:
    """mount_setattr(2)."""
    attr = MountAttrStruct(attr_set, attr_clr, propagation, userns_fd)
    syscall(
        "mount_setattr",
        NR_MOUNT_SETATTR,
        ctypes.c_long(dirfd),
        c_path(path),
        ctypes.c_ulong(flags),
        ctypes.byref(attr),
        ctypes.c_size_t(ctypes.sizeof(attr)),
        path=path,
    )


def mount(
    source: PathLike, target: PathLike, fs_type: str | None, flags: int = 0, data: str | None = None
) -> None:
    """mount(2)."""
    result = _libc.mount(
        c_path(source), c_path(target), c_path(fs_type), ctypes.c_ulong(flags), c_path(data)
    )
    checked("mount", result, target)


def umount2(target: PathLike, flags: int = 0) -> None:
    """umount2(2)."""
    checked("umount2", _libc.umount2(c_path(target), ctypes.c_int(flags)), target)


def pivot_root(new_root: PathLike, put_old: PathLike) -> None:
    """pivot_root(2)."""
    checked("pivot_root", _libc.pivot_root(c_path(new_root), c_path(put_old)), new_root)


def fchroot(fd: int) -> None:
    """fchroot(2): make the directory *fd*, or FD_FAILFS_ROOT, the caller's root.

    :raises OSError: ENOSYS on kernels without the call (before 7.3).
    """
    syscall("fchroot", NR_FCHROOT, ctypes.c_long(fd), ctypes.c_ulong(0))


def setns(fd: int, kinds: int = 0) -> None:
    """setns(2)."""
    checked("setns", _libc.setns(ctypes.c_int(fd), ctypes.c_int(kinds)))


def unshare(kinds: int) -> None:
    """unshare(2)."""
    checked("unshare", _libc.unshare(ctypes.c_int(kinds)))


def prctl(option: int, *arguments: int) -> int:
    """prctl(2)."""
    words = [ctypes.c_ulong(value) for value in arguments] + [ctypes.c_ulong(0)] * 4
    return checked("prctl", _libc.prctl(ctypes.c_int(option), *words[:4]))


@contextmanager
def closing_fd(fd: int) -> Iterator[int]:
    """Close *fd* at the end of the block, where it matters when that happens."""
    try:
        yield fd
    finally:
        os.close(fd)
