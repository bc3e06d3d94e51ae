# SPDX-License-Identifier: GPL-2.0-only
"""Descriptors made in another process, handed over with SCM_RIGHTS (unix(7))."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

from tests.utils.tasks.process import in_child

#: The most a message may carry (SCM_MAX_FD), and more than any case needs.
_MOST = 253


def fds_from_child(function: Callable[[], Sequence[int]]) -> list[int]:
    """Run *function* in a forked child that ends, and return the descriptors it made, in order.

    :raises OSError: the child's own, with its errno.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def run() -> None:
        socket.send_fds(theirs, [b"fds"], list(function()))

    with ours, theirs:
        in_child(run)
        _, fds, flags, _ = socket.recv_fds(ours, 16, _MOST)
    if flags & socket.MSG_CTRUNC:
        raise AssertionError("not all descriptors arrived")
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds
