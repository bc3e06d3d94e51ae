# SPDX-License-Identifier: GPL-2.0-only
"""Programs beside a run of isolated cases, which hold, make and mount what the cases ask them to.

A case asks by name: one program belongs to the run (pytest has forked it), one to nobody.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

from tests.harness.helpers.callers import NOBODY, make_reachable
from tests.harness.helpers.suite import ROOT
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_mount_ns, in_own_mount_ns
from tests.utils.uapi.constants import MNT_DETACH
from tests.utils.uapi.nsfs import current_mnt_ns, ns_id
from tests.utils.uapi.syscalls import mount, umount2

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


def younger(fd: int) -> int:
    """Return a descriptor of a copy of the caller's mount namespace whose id is larger than that of
    the namespace *fd*, which can hold it then.

    Each processor gives out ids of its own, those of the one that made *fd* being larger.
    """
    processors = os.sched_getaffinity(0)
    try:
        for number in processors:
            os.sched_setaffinity(0, {number})
            found = namespace()
            if ns_id(found) > ns_id(fd):
                return found
            os.close(found)
    finally:
        os.sched_setaffinity(0, processors)
    raise AssertionError("no processor gives out larger ids")


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

    def serve(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Answer until *process* has ended, or for ever."""
        poller = select.poll()
        poller.register(self._server, select.POLLIN)
        while process is None or process.poll() is None:
            if not poller.poll(20):
                continue
            client, _ = self._server.accept()
            with client:
                words, fds, _, _ = socket.recv_fds(client, 4096, 1)
                word, *arguments = words.decode().split()
                client.send(str(getattr(self, word)(*arguments, *fds)).encode())

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

    def mount(self, path: str) -> int:
        """Mount at *path*, in the namespace that this and pytest are in."""
        mount("another", path, "tmpfs")
        return 0

    def cases(self) -> int:
        """Count the mounts of cases in that namespace."""
        return Path("/proc/self/mountinfo").read_text().count(" case-")


def ask(address: str | Path, words: str, *fds: int) -> str:
    """Have the program at *address* do something: *words* are the name of a method of Stranger, and
    its arguments."""
    with socket.socket(*_SEQPACKET) as client:
        client.connect(str(address))
        socket.send_fds(client, [words.encode()], fds)
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


#: Lines wide enough for whole reasons.
_ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "200"}


def run_pytest(
    folder: Path,
    *arguments: str,
    count: int = 1,
    as_user: bool = False,
    prepare: Callable[[], object] | None = None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> list[str]:
    """Return what *count* runs of pytest print, at the same time, in a mount namespace that is not
    the machine's, with a stranger beside them whose address is "stranger" in *folder*.

    :param as_user: run pytest, but not the stranger, as an unprivileged user.
    :param prepare: what to do in that namespace first.
    :param cwd: *folder* if not given.
    """
    # pytest names its folder for temporary files by the user, whom a user namespace calls root.
    user = f"uid-{NOBODY if as_user else os.getuid()}"

    def run() -> list[str]:
        if as_user:
            make_reachable([Path(sys.prefix), Path(sys.base_prefix), ROOT])
        if prepare is not None:
            prepare()
        stranger = Stranger(folder / "stranger")
        with ExitStack() as stack:
            outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count)]
            processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "pytest", "-rA", "-pno:cacheprovider", *arguments],
                    cwd=cwd or folder,
                    user=NOBODY if as_user else None,
                    group=NOBODY if as_user else None,
                    extra_groups=[] if as_user else None,
                    env={**os.environ, **_ENVIRONMENT, "LOGNAME": user, **(environment or {})},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )
                for output in outputs
            ]
            for process in processes:
                stranger.serve(process)
            for output in outputs:
                output.seek(0)
            return [output.read() for output in outputs]

    return in_child(in_own_mount_ns(run))
