# SPDX-License-Identifier: GPL-2.0-only
"""The older way to watch a directory: a signal for what is made in it. Source: ``linux/fcntl.h``,
``Documentation/filesystems/dnotify.rst``."""

from __future__ import annotations

import fcntl
import os


def dnotify_watch(path: str | os.PathLike[str]) -> None:
    """Watch the directory *path* with fcntl(F_NOTIFY), and end that at once: its signal would kill.

    :raises OSError: EINVAL where it takes no watch, and on kernels without CONFIG_DNOTIFY.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_CREATE)
    finally:
        os.close(fd)  # which ends it
