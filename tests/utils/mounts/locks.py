# SPDX-License-Identifier: GPL-2.0-only
"""MNT_LOCKED of mounts: no call reports it, so a refusal has to tell."""

from __future__ import annotations

import errno
import os

from tests.utils.uapi.constants import MNT_EXPIRE
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import umount2


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Return whether the mount at *path* is locked to its place; change nothing.

    The mount is asked to expire: EINVAL means that it may not be unmounted at all, EBUSY that it is
    in use, and EAGAIN that it is now marked, to be unmounted when asked again if nobody has used it
    by then. Not for the caller's own root, which never expires.
    """
    try:
        umount2(path, MNT_EXPIRE)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return True
        if error.errno in (errno.EBUSY, errno.EAGAIN):
            os.stat(path)  # Using it takes the mark off again.
            return False
        raise
    raise AssertionError(f"{path} was unmounted: somebody had asked it to expire before")


def locks() -> dict[str, bool]:
    """Return, for each mount the caller sees below its root, whether it is locked."""
    points = [mount.mnt_point for mount in mount_table()]
    return {point: is_locked(point) for point in points if point not in (None, "/")}
