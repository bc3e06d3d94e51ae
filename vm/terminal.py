# SPDX-License-Identifier: GPL-2.0-only
"""What a run prints while it goes on: text that stays, and how far it has come.

On a terminal that is one line at the bottom, written over and over; in a log a line of its own at
every tenth of the way.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import time
from dataclasses import dataclass

from vm.errors import Interrupted

#: Seconds between two writings of the line on a terminal.
_PAUSE = 0.1
#: Lines in a log on the way, the last one included.
_STEPS = 10
_CLEAR = "\r\x1b[K"
#: The reader of a pipe, or the terminal, is no longer there.
_GONE = (errno.EPIPE, errno.EIO)


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    done: int = 0
    #: 0 while it is not known.
    total: int = 0
    bad: int = 0
    #: What is going on.
    current: str = ""

    def __str__(self) -> str:
        return f"{self.done}/{self.total or '?'} cases, {self.bad} failed"


class Screen:
    """A run's output and, on a terminal, one status line below it."""

    def __init__(self) -> None:
        #: Whether standard output is a terminal that can redraw a line.
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb")
        self._over = False
        self._partial = ""
        self._status = ""
        self._at = 0.0
        self._step = 0

    def text(self, text: str) -> None:
        """Print *text*, which may end in the middle of a line."""
        if not self.live:
            self._write(text)
            return
        whole, newline, self._partial = (self._partial + text).rpartition("\n")
        if newline:
            self._write(f"{_CLEAR}{whole}\n{self._status}")

    def line(self, text: str = "") -> None:
        """Print a line."""
        self.text(f"{text}\n")

    def note(self, text: str) -> None:
        """Print a line on what is going on, to standard error."""
        if self.live:
            self._write(_CLEAR)
        say(text)
        if self.live:
            self._write(self._status)

    @property
    def due(self) -> bool:
        """Whether it is time to tell again how far it has come."""
        if time.monotonic() - self._at < _PAUSE:
            return False
        self._at = time.monotonic()
        return True

    def status(self, status: str) -> None:
        """Show on a terminal how it stands."""
        if self.live:
            self._put(status)

    def milestone(self, progress: Progress) -> None:
        """Print a line, in a log, if another tenth of the way is behind us."""
        step = progress.done * _STEPS // progress.total if progress.total else 0
        if not self.live and step > self._step:
            self._step = step
            self.line(str(progress))

    def close(self) -> None:
        """Take the status line away and print what is left: the guests are gone."""
        self._over = True
        if self.live:
            self._put("")
            self._write(self._partial)
            self._partial, self.live = "", False

    def _put(self, status: str) -> None:
        status = status[: shutil.get_terminal_size().columns - 1]
        if status != self._status:
            self._status = status
            self._write(_CLEAR + status)

    def _write(self, text: str) -> None:
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError as error:
            if error.errno not in _GONE:
                raise
            silence(1)
            if not self._over:  # nobody reads: as if interrupted
                raise Interrupted("standard output is closed") from None


def silence(fd: int) -> None:
    """Have what is written to the closed *fd* go nowhere, when Python ends too."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), fd)


def say(text: str) -> None:
    """Print a line on what is going on to standard error: standard output is for results."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        silence(2)


def complain(text: str) -> None:
    """Print a line on what is wrong to standard error, if it still leads anywhere."""
    say(f"vm: {text}")
