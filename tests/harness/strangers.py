# SPDX-License-Identifier: GPL-2.0-only
"""Programs beside a run of isolated cases, which hold, make and mount what the cases ask them to.

A case asks by name: one program belongs to the run (pytest has forked it), one to nobody.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.utils.constants import MNT_DETACH
from tests.utils.handover import fds_from_child
from tests.utils.nsfs import current_mnt_ns, ns_id
from tests.utils.syscalls import mount, umount2
from tests.utils.userns import enter_new_mount_ns

_SEQPACKET = (socket.AF_UNIX, socket.SOCK_SEQPACKET)


def namespace(*after: Callable[[], object]) -> int:
    """Return a descriptor of a copy of the caller's mount namespace, to which *after* was done."""

    def make() -> list[int]:
        enter_new_mount_ns()
        fd = current_mnt_ns()
        for step in after:
            step()
        return [fd]

    (fd,) = fds_from_child(make)
    return fd


def empty() -> None:
    """Leave no mount in the namespace the caller is in."""
    umount2("/", MNT_DETACH)


class Stranger:
    """A program that does what it is asked to."""

    def __init__(self, address: Path) -> None:
        """Listen at *address*."""
        self._server = socket.socket(*_SEQPACKET)
        self._server.bind(str(address))
        address.chmod(0o777)
        self._server.listen()
        #: What is sent stays in the queue of a connection that nobody reads.
        self._queue = socket.socketpair(*_SEQPACKET)
        self._kept: list[int] = []

    def serve(self, process: subprocess.Popen[str] | None = None) -> None:
        """Answer until *process* has ended, or for ever."""
        poller = select.poll()
        poller.register(self._server, select.POLLIN)
        while process is None or process.poll() is None:
            if not poller.poll(20):
                continue
            client, _ = self._server.accept()
            with client:
                word, fds, _, _ = socket.recv_fds(client, 64, 1)
                client.send(str(getattr(self, word.decode())(*fds)).encode())

    def hold(self, fd: int) -> int:
        """Keep *fd* open."""
        self._kept.append(fd)
        return ns_id(fd)

    def queue(self, fd: int) -> int:
        """Keep *fd* where /proc does not show it."""
        number = ns_id(fd)
        socket.send_fds(self._queue[0], [b"fd"], [fd])
        os.close(fd)
        return number

    def make(self) -> int:
        """Make a namespace of its own, and keep it where /proc does not show it."""
        return self.queue(namespace())

    def mount(self) -> int:
        """Mount in the namespace that this and pytest are in, and unmount."""
        mount("another", "/sys", "tmpfs")
        mount("another", "/mnt", "tmpfs")
        umount2("/mnt", MNT_DETACH)
        return 0


def ask(address: str | Path, word: str, *fds: int) -> str:
    """Have the program at *address* do something."""
    with socket.socket(*_SEQPACKET) as client:
        client.connect(str(address))
        socket.send_fds(client, [word.encode()], fds)
        for fd in fds:
            os.close(fd)
        return client.recv(64).decode()


def fork_stranger(address: Path) -> int:
    """Fork a program that ends when it is killed; return its PID."""
    with suppress(FileNotFoundError):
        address.unlink()
    stranger = Stranger(address)
    pid = os.fork()
    if pid == 0:
        stranger.serve()
    return pid
