# SPDX-License-Identifier: GPL-2.0-only
"""What pytest prints in a guest: kept in a file, and shown as far as it is of use.

Of a guest on its own all is shown, as it comes. Of several, pytest's head is shown once, and of
each what pytest has to say at its end; the lines of the cases would only mix.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from vm.guest.protocol import MARK
from vm.run.log import Log

#: Characters of pytest's last part that are kept to be shown.
_TAIL = 1 << 20
_COLOUR = re.compile(r"\x1b\[[\d;]*m")
#: pytest's last line, which counts the cases of its own guest.
_LAST = re.compile(r"(?:=+ )?(?:\d+ \w+|no tests ran).* in [\d.]+s")


class Transcript:
    """pytest's output in one guest."""

    def __init__(self, path: Path, show: Callable[[str], None], parts: int) -> None:
        """*show* is given the first *parts* of three: before the cases, with them, after them."""
        self._log = Log(path)
        self._show = show
        self._parts = parts
        self._part = 0
        self._tail = ""

    def take(self, text: str) -> None:
        """Take what pytest printed."""
        self._log.write(text.replace(MARK, "").encode())
        for number, piece in enumerate(text.split(MARK)):
            self._part += number > 0
            if self._part < self._parts:
                self._show(piece)
            elif self._part >= 2:
                self._tail = (self._tail + piece)[-_TAIL:]

    def close(self) -> None:
        """Close the file: the guest is gone."""
        self._log.close()

    @property
    def left(self) -> str:
        """What pytest said after the cases and has not been shown, less its last line; empty when
        there is no more to it."""
        lines = self._tail.strip("\n").split("\n")
        while lines and (_LAST.match(_COLOUR.sub("", lines[-1])) or not lines[-1]):
            lines.pop()
        return "\n".join(lines)
