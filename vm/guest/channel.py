# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: the line to the host.

Every message is one line of JSON in one write(2): the tty layer keeps a write together, so that
init and pytest can share the line. Each sender numbers its messages and signs them with the run's
nonce; the host sees by that when one is lost, cut, or not the launcher's own.
"""

from __future__ import annotations

import json
import os
import termios
import time
from contextlib import suppress

from vm.guest.protocol import Kind


class Channel:
    """The line to the host. *who* names the sender: each numbers its own messages."""

    def __init__(self, fd: int, nonce: str, who: str) -> None:
        self._fd = fd
        self._nonce = nonce
        self._who = who
        self._sequence = 0

    def send(self, kind: Kind, drain: bool = False, **values: object) -> None:
        """Send one message; with *drain* return only when it has left the machine."""
        frame = {"nonce": self._nonce, "from": self._who, "seq": self._sequence, "kind": kind}
        self._sequence += 1
        frame["at"] = round(time.clock_gettime(time.CLOCK_BOOTTIME), 3)
        text = json.dumps({**frame, **values}, separators=(",", ":"))
        view = memoryview(text.encode() + b"\n")
        while view:
            view = view[os.write(self._fd, view) :]
        if drain:
            with suppress(termios.error):
                termios.tcdrain(self._fd)
