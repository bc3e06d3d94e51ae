# SPDX-License-Identifier: GPL-2.0-only
"""The process that forks the cases, so that the pytest process need not.

Each fork write-protects all memory of the process that forks, and what it touches from then on is
copied page by page. The pytest process touches much between two cases (hooks, reports, terminal),
and where a page fault is expensive, as in an emulated machine, that costs as much as the case. A
*nursery* is forked from the pytest process, does next to nothing between two cases, and forks one
after the other from the state the pytest process had when it was forked itself. As soon as that
state may have changed, there is a new nursery.

The two talk through a pair of sockets. The pytest process sends the item's number together with
the descriptor to which the case is to send its events; the answer is the PID. It asks for the wait
status when the case has ended, and until then the case stays a zombie, so that its PID means
nothing else.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import struct
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import pytest

from tests.utils import memory, process, reports
from tests.utils.keeper import (
    PATIENCE,
    PidNamespace,
    Process,
    flush_output,
    fork,
    name_case,
)
from tests.utils.process import die_with, ended

#: Runs an item in the calling process, which it ends, and sends the events to the descriptor.
Run = Callable[[pytest.Item, int], NoReturn]

_NUMBER = struct.Struct("<Q")
_FD = struct.Struct("@i")


class Nursery:
    """A process that forks the cases, as the pytest process sees it."""

    def __init__(
        self,
        namespace: PidNamespace,
        items: dict[int, pytest.Item],
        run: Run,
        habits: memory.Habits,
    ) -> None:
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.pidfd_open(os.getpid())
        with other:
            self._pid = fork()
            if self._pid == 0:
                self._socket.close()
                _nurse(other, parent, namespace, items, run, habits)
        os.close(parent)
        self.pidfd = os.pidfd_open(self._pid)

    def _answer(self) -> int | None:
        """The number the nursery answers; None when it has ended."""
        with suppress(ConnectionError):
            data = self._socket.recv(_NUMBER.size)
            if data:
                return int(_NUMBER.unpack(data)[0])
        return None

    def fork(self, number: int, events: int) -> int | None:
        """Have item *number* run in a child; return its PID, or None when the nursery has ended."""
        with suppress(ConnectionError):
            socket.send_fds(self._socket, [_NUMBER.pack(number)], [events])
            return self._answer()
        return None

    def status(self) -> int | None:
        """Reap the child and return its wait status; None when the nursery has ended."""
        with suppress(ConnectionError):
            self._socket.send(b"?")
            return self._answer()
        return None

    def close(self) -> None:
        """End the nursery. A child of it that is still there goes on."""
        self._socket.close()
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _nurse(
    connection: socket.socket,
    parent: int,
    namespace: PidNamespace,
    items: dict[int, pytest.Item],
    run: Run,
    habits: memory.Habits,
) -> NoReturn:
    """The nursery, from its fork to its end."""
    try:
        # The terminal's Ctrl-C is for the pytest process, and so is any other signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        os.setsid()
        die_with(parent)
        name_case()
        namespace.enter()
        # Collecting would copy the memory of all objects there are.
        gc.disable()
        gc.freeze()
        if habits.pay:
            memory.own()
        _serve(connection, items, run, habits)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def _serve(
    connection: socket.socket,
    items: dict[int, pytest.Item],
    run: Run,
    habits: memory.Habits,
) -> None:
    """Fork a case per request until the pytest process is gone.

    Whatever this touches is copied for each case again.
    """
    space = socket.CMSG_SPACE(_FD.size)
    while True:
        data, ancillary, _, _ = connection.recvmsg(_NUMBER.size, space, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        (events,) = _FD.unpack(ancillary[0][2])
        copy = habits.ahead()
        try:
            pid = process.fork()
        except OSError:
            reports.send(events, "broken", traceback.format_exc())
            return
        if pid == 0:
            copy()
            connection.close()
            run(items[_NUMBER.unpack(data)[0]], events)
        os.close(events)
        connection.send(_NUMBER.pack(pid))
        if not connection.recv(1):
            return
        connection.send(_NUMBER.pack(os.waitpid(pid, 0)[1]))


class Nurseries:
    """One nursery after the other, and the PID namespace of the cases they fork."""

    def __init__(self) -> None:
        #: Which pages the cases write to.
        self.habits = memory.Habits(pay=memory.faults_are_dear())
        self._namespace: PidNamespace | None = None
        self._nursery: Nursery | None = None
        self._items: dict[int, pytest.Item] = {}
        self._state: object = None

    def changed(self) -> None:
        """The state that cases inherit has changed, or may have: the next gets a new nursery."""
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            nursery.close()

    def prepare(self, item: pytest.Item, run: Run) -> None:
        """See to it that there is a nursery, for a process like the caller as it is now.

        :param run: what a child is to call.
        """
        # What no hook tells of. The filters of warnings are set for each item anew, and usually
        # the same; -x and --maxfail count failures in a case's subtests too.
        state = (list(warnings.filters), len(sys.modules), item.session.testsfailed)
        # pytest has already noted something with the item itself, or set a hook up for it.
        special = (
            item._report_sections
            or item.user_properties
            or item.config.getini("enable_assertion_pass_hook")
        )
        nursery = self._nursery
        if self._items.get(id(item)) is not item:
            # By address, which needs no agreement: that of an object is the same after a fork.
            self._items = {id(each): each for each in (*item.session.items, item)}
            for each in self._items.values():
                each.location  # noqa: B018 - found out once, and not in each child again
            special = True
        if special or state != self._state or (nursery is not None and ended(nursery.pidfd, 0)):
            self.changed()
        if self._nursery is None:
            if self._namespace is None:
                self._namespace = PidNamespace()
            self._nursery = Nursery(self._namespace, self._items, run, self.habits)
            self._state = state

    def start(self, item: pytest.Item, events: int) -> Process:
        """Fork a child for *item*, for which all is prepared."""
        nursery = self._nursery
        assert nursery is not None
        # What is in the buffers now comes before what the case writes.
        flush_output()
        pid = nursery.fork(id(item), events)
        pidfd = os.dup(nursery.pidfd) if pid is None else os.pidfd_open(pid)
        return Process(pidfd, pid, None, self._namespace, nursery.status)

    def renew(self, patience: float = PATIENCE) -> None:
        """End all processes there are; the next case gets a new namespace.

        :param patience: how long that may take, in seconds.
        """
        self.changed()
        namespace, self._namespace = self._namespace, None
        if namespace is not None:
            namespace.close(patience)
