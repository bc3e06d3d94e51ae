# SPDX-License-Identifier: GPL-2.0-only
"""Ask for each need once, when it is first wanted, in a process that does nothing else.

Most probes fork. pytest writes to all its memory between two forks, and a fork has it copied again
then; a child of it that waits for the next question does not. Under User-Mode Linux that is 5 % of
a run in two guests and 6 % of one in eight (``python3 -m vm run --kernel LINUX --guests N``, in
turns); elsewhere it is neither gain nor loss.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from tests.utils.probes.probe import Missing
from tests.utils.tasks.private_fds import close_private, keep_private
from tests.utils.tasks.process import die_with, started

#: The longest answer, in bytes.
_MAX_ANSWER = 1 << 16


class Asker:
    """What is missing, by the name of the need."""

    def __init__(self, needs: Mapping[str, Callable[[], Missing | None]]) -> None:
        """Ask nothing yet; each of *needs* says what is missing, or None."""
        self._needs = needs
        self._answers: dict[str, Missing | None] = {}
        self._socket: socket.socket | None = None
        self._child = ExitStack()

    def missing(self, name: str) -> Missing | None:
        """Return what is missing of the need *name*, None when nothing is."""
        if name not in self._answers:
            self._answers[name] = self._ask(name)
        return self._answers[name]

    def _ask(self, name: str) -> Missing | None:
        if self._socket is None:
            self._socket = self._started()
        with suppress(OSError):
            self._socket.send(name.encode())
            if answer := self._socket.recv(_MAX_ANSWER):
                return pickle.loads(answer)  # type: ignore[no-any-return]
        # The child has died: what of, if it was the question, is found out here.
        return self._needs[name]()

    def _started(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())

        def answer() -> None:
            ours.close()
            die_with(parent)
            # Collecting would copy the memory of all objects there are.
            gc.disable()
            gc.freeze()
            while name := theirs.recv(256):
                theirs.send(pickle.dumps(self._needs[name.decode()]()))

        self._child.enter_context(started(answer))
        theirs.close()
        os.close(parent)
        keep_private(ours.fileno())
        return ours

    def close(self) -> None:
        """End the child. The answers stay."""
        if self._socket is not None:
            close_private(self._socket.detach())
            self._child.close()
            self._socket = None
