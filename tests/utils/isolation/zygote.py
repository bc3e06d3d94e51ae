# SPDX-License-Identifier: GPL-2.0-only
"""A zygote: forked from pytest once, it makes the cases' surroundings and forks each case.

pytest touches much memory between two cases, and what it touches after a fork is copied page by
page. A zygote does next to nothing between two forks. It is replaced when the state that cases
inherit from pytest has changed, and after a case that ended in any other way than clean: it takes
all that it has started along.

The two talk through a pair of sockets. pytest sends an item's address with the descriptor for its
events; the answer is the case's PID. It asks for the wait status when the case has ended, and until
then the case stays a zombie, so that its PID means nothing else.
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
from typing import Any, NoReturn

import pytest

from tests.utils.isolation import channel, prefault, sandbox, sources
from tests.utils.isolation.prefault import WriteSet
from tests.utils.isolation.sandbox import Facts
from tests.utils.pytest_internals import temporary_base
from tests.utils.tasks import process
from tests.utils.tasks.case_name import case_name, take_name
from tests.utils.tasks.private_fds import close_all_private, close_private, keep_private
from tests.utils.tasks.process import die_with, ended

#: How long killed processes may take to be gone, in seconds.
KILL_TIMEOUT = 10.0

#: How long the process may take to answer, in seconds: what a case has left may not die at once.
_ANSWER_TIMEOUT = 60.0

#: Runs an item in the calling process, which it ends; sends the events to the descriptor, and notes
#: which memory was written to.
Run = Callable[[pytest.Item, Facts, int, WriteSet | None], NoReturn]

_NUMBER, _FD = struct.Struct("<q"), struct.Struct("@i")
_SPACE = socket.CMSG_SPACE(_FD.size)
#: The request, instead of the address of an item, to reap the case.
_REAP = 0
#: The first message of a zygote, unless it is what went wrong.
_READY = b"ready"


class Zygote:
    """A process that forks cases, as the pytest process sees it."""

    def __init__(self, wanted: Facts, items: dict[int, pytest.Item], run: Run) -> None:
        """Fork it.

        :param wanted: the isolation its cases get.
        :param items: by their address, which is the same after a fork.
        :raises OSError: the machine grants *wanted* no longer.
        """
        #: The init of the cases' PID namespace, which takes all of them along.
        self._init: int | None = None
        #: The mount table of the cases' own root, where they have one.
        self.mountinfo: int | None = None
        self._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(_ANSWER_TIMEOUT)
        parent = os.pidfd_open(os.getpid())
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None and not stream.closed:
                stream.flush()
        with other:
            self._pid = process.fork()
            if self._pid == 0:
                self._socket.close()
                _zygote_main(other, parent, wanted, items, run)
        os.close(parent)
        self._pidfd = os.pidfd_open(self._pid)
        said, fds = b"", list[int]()
        with suppress(OSError):
            said, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, 2)
        if said != _READY:
            self.close(0)
            why = said.decode() or "the process that makes them has died, or does not answer"
            raise OSError(f"the cases' surroundings cannot be made: {why}")
        if wanted.pid_namespace:
            self._init = fds.pop(0)
        if wanted.own_root:
            self.mountinfo = fds.pop()
        for fd in filter(None, (self._init, self.mountinfo)):
            keep_private(fd)

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return ended(self._pidfd, 0)

    def fork(self, item: pytest.Item, events: int) -> int | None:
        """Run *item* in a child; return its PID, or None when the zygote has ended."""
        with suppress(OSError):
            socket.send_fds(self._socket, [_NUMBER.pack(id(item))], [events])
            return self._answer()
        return None

    def reap(self) -> int | None:
        """Return the wait status of the case that has ended; None when the zygote has, too."""
        with suppress(OSError):
            self._socket.send(_NUMBER.pack(_REAP))
            return self._answer()
        return None

    def _answer(self) -> int | None:
        data = self._socket.recv(_NUMBER.size)
        return int(_NUMBER.unpack(data)[0]) if data else None

    def kill_case(self, pidfd: int) -> None:
        """Kill the case *pidfd* and everything in its PID namespace; wait for none of it."""
        for one in (pidfd, self._init):
            if one is not None:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(one, signal.SIGKILL)

    def close(self, timeout: float = KILL_TIMEOUT) -> None:
        """End the process and all that it has started; wait up to *timeout* seconds."""
        self._socket.close()
        if not ended(self._pidfd, timeout):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            ended(self._pidfd, timeout)
        os.close(self._pidfd)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, os.WNOHANG)
        for fd in filter(None, (self._init, self.mountinfo)):
            close_private(fd)
        self._init = self.mountinfo = None


def _zygote_main(
    connection: socket.socket,
    parent: int,
    wanted: Facts,
    items: dict[int, pytest.Item],
    run: Run,
) -> NoReturn:
    """The zygote, from its fork to its end."""
    init: int | None = None
    # Its own may show the processes of the cases alone.
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The terminal's Ctrl-C is for the pytest process, and so is any other signal.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        close_all_private()
        os.setsid()
        # Collecting would copy the memory of all objects there are.
        gc.disable()
        gc.freeze()
        take_name(case_name(os.getppid()))
        try:
            init, mountinfo = sandbox.arrange(wanted)
        except OSError as error:
            connection.send(str(error).encode())
            os._exit(1)
        if init is None:
            # Not to be killed, but to kill: the end of the connection tells when.
            process.become_subreaper()
        else:
            # Not before: new credentials, those of a user namespace, undo it.
            die_with(parent)
        write_set = WriteSet() if prefault.is_user_mode_linux() else None
        if write_set is not None:
            # Not before: the init that was forked shares all memory there is, and keeps it.
            prefault.unshare_memory(proc)
        fds = [] if init is None else [os.pidfd_open(init)]
        fds += [] if mountinfo is None else [mountinfo]
        socket.send_fds(connection, [_READY], fds)
        for fd in fds:
            os.close(fd)

        def start(address: int, events: int) -> NoReturn:
            run(items[address], wanted, events, write_set)

        _serve(connection, start, proc, write_set, alone=init is not None)
    except (ConnectionError, ProcessLookupError):
        pass  # The pytest process has ended.
    except BaseException:
        traceback.print_exc()
    finally:
        if init is None:
            _kill_children(proc)
        else:
            os.kill(init, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        os._exit(0)


def _serve(
    connection: socket.socket,
    start: Callable[[int, int], NoReturn],
    proc: int,
    write_set: WriteSet | None,
    *,
    alone: bool,
) -> None:
    """Fork a case per request until the pytest process is gone.

    Whatever this touches is copied for each case again.

    :param start: runs an item, given by its address, and sends the events to a descriptor.
    :param proc: a descriptor of the /proc that shows the caller.
    :param alone: whether a PID namespace takes along what a case leaves.
    """
    populate = None
    while True:
        data, ancillary, _, _ = connection.recvmsg(_NUMBER.size, _SPACE, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        (events,) = _FD.unpack(ancillary[0][2])
        if populate is None and write_set is not None and write_set.complete:
            populate = write_set.populating(proc)
        try:
            pid = process.fork()
        except OSError:
            channel.send(events, "broken", traceback.format_exc())
            return
        if pid == 0:
            if populate is not None:
                populate()
                # A case that forks loses, and its child with it, what was gained here.
                process.after_fork.append(populate)
            connection.close()
            start(_NUMBER.unpack(data)[0], events)
        os.close(events)
        connection.send(_NUMBER.pack(pid))
        if not connection.recv(_NUMBER.size):
            return
        _, status = os.waitpid(pid, 0)
        if not alone:
            _kill_children(proc)
        connection.send(_NUMBER.pack(status))


def _kill_children(proc: int) -> None:
    """Kill the caller's children until there are none, orphans that come to it included."""
    while True:
        for pid, parent in process.parents(proc).items():
            if parent == os.getpid():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


class Zygotes:
    """The zygote of each kind of isolation, as long as what it has inherited holds."""

    def __init__(self, run: Run) -> None:
        """*run* is what a child is to call."""
        self._run = run
        self._zygotes: dict[Facts, Zygote] = {}
        self._items: dict[int, pytest.Item] = {}
        self._state: object = None

    def get(self, item: pytest.Item, wanted: Facts) -> Zygote:
        """Return a zygote for *item*, forked from the pytest process as it is now."""
        config: Any = item.config
        # What no hook tells of. The filters of warnings are set for each item anew, and usually
        # the same; -x and --maxfail count failures in a case's subtests too.
        state = (
            list(warnings.filters),
            len(sys.modules),
            item.session.testsfailed,
            temporary_base(config),
        )
        if self._items.get(id(item)) is not item:
            self._items = {id(each): each for each in (*item.session.items, item)}
            self._state = None
        if state != self._state:
            self.close()
            self._state = state
        zygote = self._zygotes.get(wanted)
        if zygote is not None and zygote.has_ended:
            zygote.close(0)
            zygote = None
        if zygote is None:
            sources.cache_sources(config.rootpath)
            zygote = self._zygotes[wanted] = Zygote(wanted, self._items, self._run)
            if zygote.mountinfo is not None:
                config.hook.pytest_isolation_prepared(config=config, mountinfo=zygote.mountinfo)
        return zygote

    def close(self, timeout: float = KILL_TIMEOUT) -> None:
        """End all zygotes: the state that cases inherit has changed, or a case was not clean."""
        while self._zygotes:
            self._zygotes.popitem()[1].close(timeout)
