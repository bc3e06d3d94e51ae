# SPDX-License-Identifier: GPL-2.0-only
"""A mount table that is watched for changes."""

from __future__ import annotations

import os
import select
from difflib import unified_diff

from tests.utils.tasks.private_fds import close_private, keep_private


class MountTable:
    """A mount table, by a descriptor of its mountinfo (proc_pid_mountinfo(5)), which it owns."""

    def __init__(self, fd: int, mark: str = "") -> None:
        """Read the table; of its lines only those with *mark* count."""
        self._fd, self._mark = fd, mark
        keep_private(fd)
        self._poller = select.poll()
        # The kernel's sign that the table has changed (proc_pid_mounts(5)).
        self._poller.register(fd, select.POLLPRI)
        self._known = self._read()

    def _read(self) -> list[str]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        data = b""
        while part := os.read(self._fd, 1 << 16):
            data += part
        lines = data.decode(errors="backslashreplace").splitlines()
        # Before they are compared: a machine may have thousands, and change them all the time.
        return [line for line in lines if self._mark in line]

    def changes(self) -> list[str]:
        """Return the lines that are new ("+ ...") or gone ("- ...") since the last call."""
        if not self._poller.poll(0):
            return []
        before, self._known = self._known, self._read()
        compared = unified_diff(before, self._known, n=0, lineterm="")
        return [
            f"{line[0]} {line[1:]}"
            for line in compared
            if line[0] in "+-" and not line.startswith(("+++", "---"))
        ]

    def close(self) -> None:
        """Close the table."""
        close_private(self._fd)
