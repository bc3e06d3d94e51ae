# SPDX-License-Identifier: GPL-2.0-only
"""Landlock: a task that denies itself things (landlock(7)).

Source: ``linux/landlock.h`` (Linux 7.3).
"""

from __future__ import annotations

import ctypes
import struct

from tests.utils.uapi.syscalls import NR_OPEN_TREE, prctl, syscall

# Numbers from open_tree(2) on are common to all architectures but for one offset.
_CREATE_RULESET = NR_OPEN_TREE + 16
_RESTRICT_SELF = NR_OPEN_TREE + 18
_PR_SET_NO_NEW_PRIVS = 38
_ACCESS_FS_MAKE_BLOCK = 1 << 11


def restrict_self() -> None:
    """Put the calling thread in a domain that denies the making of block devices. As every domain
    with a right of the file system it denies changes of the mount topology, too.

    :raises OSError: ENOSYS or EOPNOTSUPP from a kernel without Landlock.
    """
    attributes = struct.pack("=Q", _ACCESS_FS_MAKE_BLOCK)
    ruleset = syscall(
        "landlock_create_ruleset",
        _CREATE_RULESET,
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
        ctypes.c_uint32(0),
    )
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    syscall("landlock_restrict_self", _RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
