# SPDX-License-Identifier: GPL-2.0-only
"""Capabilities of the calling thread: capget(2) and capset(2), version 3 of their interface."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

from tests.utils.uapi.syscalls import checked

_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


class Cap(IntEnum):
    """The capabilities the cases name (``linux/capability.h``)."""

    CAP_DAC_OVERRIDE = 1
    CAP_DAC_READ_SEARCH = 2
    CAP_SETUID = 7
    CAP_SYS_CHROOT = 18
    CAP_SYS_ADMIN = 21


CAP_DAC_OVERRIDE = Cap.CAP_DAC_OVERRIDE
CAP_DAC_READ_SEARCH = Cap.CAP_DAC_READ_SEARCH
CAP_SYS_CHROOT = Cap.CAP_SYS_CHROOT
CAP_SYS_ADMIN = Cap.CAP_SYS_ADMIN


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The three capability sets of a thread, each as a bit mask."""

    effective: int
    permitted: int
    inheritable: int

    def has(self, cap: Cap) -> bool:
        """Return whether *cap* is effective."""
        return bool(self.effective >> cap & 1)


def capget() -> Capabilities:
    """Return the calling thread's capabilities."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    checked("capget", _libc.capget(ctypes.byref(header), data))
    return Capabilities(
        data[0].effective | data[1].effective << 32,
        data[0].permitted | data[1].permitted << 32,
        data[0].inheritable | data[1].inheritable << 32,
    )


def effective_in_proc() -> int:
    """Return the effective capabilities as /proc/self/status has them, for a caller that must not
    be killed: a filter of system calls may kill whoever calls capget(2).

    :raises OSError: there is no /proc.
    """
    for line in Path("/proc/self/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value, 16)
    raise OSError(errno.ENOENT, "no CapEff", "/proc/self/status")


def capset(capabilities: Capabilities) -> None:
    """Set the calling thread's capabilities."""
    header = _Header(_LINUX_CAPABILITY_VERSION_3, 0)
    data = (_Data * 2)()
    for half, shift in ((data[0], 0), (data[1], 32)):
        half.effective = capabilities.effective >> shift & 0xFFFFFFFF
        half.permitted = capabilities.permitted >> shift & 0xFFFFFFFF
        half.inheritable = capabilities.inheritable >> shift & 0xFFFFFFFF
    checked("capset", _libc.capset(ctypes.byref(header), data))


def keep_only(*caps: Cap) -> None:
    """Leave exactly *caps* effective and permitted (they must be permitted already)."""
    mask = sum(1 << cap for cap in caps)
    capset(Capabilities(mask, mask, 0))


def drop(*caps: Cap) -> None:
    """Give up *caps*, effective and permitted; keep the rest."""
    now = capget()
    mask = ~sum(1 << cap for cap in caps)
    capset(Capabilities(now.effective & mask, now.permitted & mask, now.inheritable & mask))


@contextmanager
def effective(mask: int) -> Iterator[None]:
    """Have exactly the capabilities of *mask* effective during the block; all stay permitted."""
    before = capget()
    capset(replace(before, effective=mask))
    try:
        yield
    finally:
        capset(before)
