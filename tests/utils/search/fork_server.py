# SPDX-License-Identifier: GPL-2.0-only
"""Many runs of one function, each in a child that is cheap to fork.

A search keeps much in memory, touches all of it between two runs, and pays for that with page
faults after each fork. A fork server is a process that was forked before the search began, does
nothing itself, and forks a child per run.
"""

from __future__ import annotations

import gc
import pickle
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from tests.utils.tasks.process import ChildError, in_child, started

T = TypeVar("T")
R = TypeVar("R")

#: Of a message, in bytes: far more than an argument or a result takes.
_MOST = 1 << 17


@contextmanager
def fork_server(function: Callable[[T], R]) -> Iterator[Callable[[T], R]]:
    """Give a callable that runs *function* in a child of its own each time, until the block ends.

    Arguments and results travel pickled. The callable raises ChildError for whatever the child
    raises, or for its death.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def serve() -> None:
        ours.close()
        gc.disable()
        gc.freeze()
        while request := theirs.recv(_MOST):
            argument = pickle.loads(request)
            try:
                answer: tuple[bool, object] = True, in_child(partial(function, argument))
            except (OSError, ChildError) as error:
                answer = False, str(error)
            theirs.send(pickle.dumps(answer))

    def run(argument: T) -> R:
        ours.send(pickle.dumps(argument))
        reply = ours.recv(_MOST)
        if not reply:
            raise ChildError("the process that forks the runs has ended")
        fine, value = pickle.loads(reply)
        if not fine:
            raise ChildError(value)
        return value  # type: ignore[no-any-return]

    with ours, theirs, started(serve):
        theirs.close()
        yield run
