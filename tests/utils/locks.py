# SPDX-License-Identifier: GPL-2.0-only
"""Which mounts are locked (MNT_LOCKED): no call reports it, so it is asked for by a refusal."""

from __future__ import annotations

import errno
import os

from tests.utils.constants import MNT_DETACH, MNT_EXPIRE
from tests.utils.expect import outcome
from tests.utils.mounts import mount_table
from tests.utils.syscalls import umount2


def is_locked(path: str | os.PathLike[str]) -> bool:
    """Whether the mount at *path* is locked to its place. Nothing is changed by the question.

    It is asked to expire: EINVAL says it may not be unmounted at all, EBUSY that it is in use, and
    EAGAIN that it is marked now, to be unmounted if nobody uses it until asked a second time. Not
    for the caller's own root, which never expires.
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


def detaching(path: str) -> dict[str, str]:
    """Try to detach the mount at *path*, the caller's root too: how that ends (see ends())."""
    return ends(outcome(lambda: umount2(path, MNT_DETACH)), path)


def ends(end: str, path: str = "/") -> dict[str, str]:
    """What :func:`detaching` must give; it names the call, for the text of a failure."""
    return {f"umount2({path}, MNT_DETACH)": end}


def locks() -> dict[str, bool]:
    """For each mount the caller sees below its root: whether it is locked."""
    points = [mount.mnt_point for mount in mount_table()]
    return {point: is_locked(point) for point in points if point not in (None, "/")}
