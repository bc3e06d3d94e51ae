# SPDX-License-Identifier: GPL-2.0-only
"""What a guest prints, kept in a file: of a flood the beginning and the end, and no error stops it.

A guest that prints without end must fill neither the disk nor the launcher's memory; and where the
disk is full already, the run can still come to its verdict.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

#: Bytes that are kept: from the beginning, and up to the end.
_HEAD, _TAIL = 16 << 20, 1 << 20


class Log:
    """One stream of one guest, from its first byte to close()."""

    def __init__(self, path: Path, head: int = _HEAD, tail: int = _TAIL) -> None:
        """*head* and *tail* are how many bytes of the beginning and of the end are kept."""
        self.path = path
        #: Bytes that came, kept or not.
        self.size = 0
        #: Why the file lacks some of it, None when it does not.
        self.error: OSError | None = None
        self._head, self._tail = head, tail
        self._written = 0
        self._end = b""
        self._file = path.open("wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Take what the guest printed."""
        room = max(0, self._head - self.size)
        self.size += len(data)
        self._put(data[:room])
        # What lies behind the head, or where the file cannot take it.
        self._end = (self._end + data[0 if self.error else room :])[-self._tail :]

    def _put(self, data: bytes) -> None:
        if self.error is None:
            try:
                while data:
                    count = self._file.write(data)
                    self._written += count
                    data = data[count:]
            except OSError as error:
                error.filename = str(self.path)
                self.error = error

    def close(self) -> None:
        """Put the end behind the beginning: the guest is gone."""
        left_out = self.size - self._head - len(self._end)
        if left_out > 0:
            self._put(f"\n[... {left_out} bytes left out ...]\n".encode())
        self._put(self._end)
        with suppress(OSError):
            self._file.close()

    def lines(self) -> list[str]:
        """Return what is kept of it, without blanks at the ends of lines; after close()."""
        with self.path.open("rb") as file:
            data = file.read(self._written)
        if self.error:
            data += self._end
        return [line.rstrip() for line in data.decode(errors="replace").splitlines()]
