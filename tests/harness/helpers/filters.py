# SPDX-License-Identifier: GPL-2.0-only
"""Filters of system calls, as services and containers have them: real ones, by prctl(2).

As a module on its own (``-p tests.harness.helpers.filters``) it is a plugin that puts the process
of pytest under the filters that $OPEN_TREE_NS_FILTER names: "kill open_tree", "EPERM unshare,ENOSYS
mount".
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform

from tests.utils.uapi.syscalls import (
    NR_FSOPEN,
    NR_LISTMOUNT,
    NR_MOVE_MOUNT,
    NR_OPEN_TREE,
    NR_STATMOUNT,
    prctl,
)

VARIABLE = "OPEN_TREE_NS_FILTER"
_OTHERS = {
    "x86_64": {
        "capget": 125,
        "mount": 165,
        "pivot_root": 155,
        "unshare": 272,
        "clone": 56,
        "vfork": 58,
        "ptrace": 101,
        "seccomp": 317,
    },
    "aarch64": {
        "capget": 90,
        "mount": 40,
        "pivot_root": 41,
        "unshare": 97,
        "clone": 220,
        "ptrace": 117,
        "seccomp": 277,
    },
}
#: Name of a call -> its number here.
CALLS = {
    "open_tree": NR_OPEN_TREE,
    "statmount": NR_STATMOUNT,
    "listmount": NR_LISTMOUNT,
    "fsopen": NR_FSOPEN,
    "move_mount": NR_MOVE_MOUNT,
    **_OTHERS.get(platform.machine(), {}),
}
# linux/prctl.h, linux/seccomp.h, linux/bpf_common.h.
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_KILL_PROCESS, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06


class _Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(how: str, call: str) -> None:
    """Filter *call* from now on: *how* is "kill", or the name of the errno it is to give.

    :raises OSError: the kernel has no filters.
    """
    action = _KILL_PROCESS if how == "kill" else _ERRNO | getattr(errno, how)
    lines = (_Instruction * 4)(
        _Instruction(_LOAD_WORD, 0, 0, 0),  # the number of the call
        _Instruction(_JUMP_IF_EQUAL, 0, 1, CALLS[call]),
        _Instruction(_RETURN, 0, 0, action),
        _Instruction(_RETURN, 0, 0, _ALLOW),
    )
    program = _Program(len(lines), ctypes.addressof(lines))
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def pytest_configure() -> None:
    """Come under the filter."""
    for rule in os.environ[VARIABLE].split(","):
        install(*rule.split())
