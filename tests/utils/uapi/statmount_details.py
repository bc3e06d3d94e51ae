# SPDX-License-Identifier: GPL-2.0-only
"""What statmount(2) tells of a mount besides its place: options, subtype, where it gets its mounts.

Source: ``linux/mount.h`` (Linux 7.3).
"""

from __future__ import annotations

import ctypes
from typing import NamedTuple

from tests.utils.uapi.constants import Statmount
from tests.utils.uapi.statmount import StatmountStruct, statmount_into

_ALL = (
    Statmount.STATMOUNT_PROPAGATE_FROM
    | Statmount.STATMOUNT_MNT_OPTS
    | Statmount.STATMOUNT_FS_SUBTYPE
    | Statmount.STATMOUNT_OPT_ARRAY
    | Statmount.STATMOUNT_OPT_SEC_ARRAY
    | Statmount.STATMOUNT_SUPPORTED_MASK
)
_SIZE = 16384


class Details(NamedTuple):
    """Details of one mount; field names are the kernel's. What was not answered is empty."""

    #: What of the request was answered.
    mask: int
    propagate_from: int
    mnt_opts: str
    fs_subtype: str
    opt_array: tuple[str, ...]
    opt_sec_array: tuple[str, ...]
    supported_mask: int


def details(mnt_id: int, *, ns_id: int = 0, ns_fd: int = -1, mask: int = _ALL) -> Details:
    """statmount(2): the details of one mount. See :func:`tests.utils.uapi.statmount.listmount` for
    the namespace arguments."""
    buffer = ctypes.create_string_buffer(_SIZE)
    statmount_into(buffer, _SIZE, mnt_id, mask, ns_id=ns_id, ns_fd=ns_fd)
    fixed = StatmountStruct.from_buffer_copy(buffer.raw)
    strings = buffer.raw[ctypes.sizeof(StatmountStruct) :]

    def texts(bit: int, offset: int, count: int) -> tuple[str, ...]:
        parts = strings[offset:].split(b"\0")[: count if fixed.mask & bit else 0]
        return tuple(part.decode() for part in parts)

    return Details(
        mask=fixed.mask,
        propagate_from=fixed.propagate_from,
        mnt_opts="".join(texts(Statmount.STATMOUNT_MNT_OPTS, fixed.mnt_opts, 1)),
        fs_subtype="".join(texts(Statmount.STATMOUNT_FS_SUBTYPE, fixed.fs_subtype, 1)),
        opt_array=texts(Statmount.STATMOUNT_OPT_ARRAY, fixed.opt_array, fixed.opt_num),
        opt_sec_array=texts(
            Statmount.STATMOUNT_OPT_SEC_ARRAY, fixed.opt_sec_array, fixed.opt_sec_num
        ),
        supported_mask=fixed.supported_mask,
    )
