# SPDX-License-Identifier: GPL-2.0-only
"""What a measuring process does: one container after the other for a while, and how many it made.

Whatever can be done beforehand is done beforehand; the clock is read once per batch. Python's own
share is known from the same loop over no method, and over calls that do nothing (bench.calls).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Literal, assert_never

from bench import calls
from bench.layout import Ground
from bench.methods import METHODS, NOTHING, Method
from bench.program import Program
from bench.readers import reading
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
)
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import listmount, mnt_id_of, statmount
from tests.utils.uapi.syscalls import closing_fd, open_tree, setns

#: Batches that a run is made of, about: as many chances to see that its time is over.
_BATCHES = 20


#: The calls alone, in a process without a copy, in a fork of Python, and without entering what they
#: make; the calls that do nothing; who mounts and who makes processes beside; who reads a table,
#: alone and while another mounts; and :func:`look`.
Way = Literal[
    "calls", "process", "fork", "handle", "hollow", "bystander", "forker", "reader", "reader-busy",
    "look",
]  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A run: *letter*'s method, for so many seconds at least."""

    way: Way
    letter: str = NOTHING.letter
    seconds: float = 0.0


@dataclass(frozen=True)
class Done:
    """What a run came to."""

    count: int
    seconds: float
    #: Of each single one, in nanoseconds; of who stands by only.
    latencies: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Container:
    """What a method makes, counted once."""

    #: Mounts the kernel made for it, those included that were gone again in the end.
    created: int
    #: Mounts it has, the hidden base left out.
    mounts: int


class NoContainer(Exception):
    """A method ran through, and did not do what it is for."""


def _method(letter: str) -> Method:
    return METHODS.get(letter, NOTHING)


def _in_calls(letter: str, kernel: calls.Calls, ground: Ground) -> Callable[[], None]:
    """The method in this process, which then returns to where it came from."""
    run, root, home, newns = _method(letter).run, ground.root, ground.home, int(CLONE_NEWNS)

    def container() -> None:
        run(kernel, root)
        kernel.setns(home, newns)

    def empty() -> None:
        run(kernel, root)

    return empty if letter == NOTHING.letter else container


def _in_process(letter: str, ground: Ground) -> Callable[[], None]:
    """The method in a child that is no copy of this process, and exits."""
    run = _method(letter).run
    return Program(lambda kernel: run(kernel, ground.root)).run_in_child


def _in_fork(letter: str, kernel: calls.Calls, ground: Ground) -> Callable[[], None]:
    """The method in a copy of this process, which then exits."""
    run, root, fork, wait, leave = _method(letter).run, ground.root, os.fork, os.waitpid, os._exit

    def container() -> None:
        pid = fork()
        if pid == 0:
            status = 255
            try:
                run(kernel, root)
                status = 0
            except OSError as error:
                status = error.errno or 255
            finally:
                leave(status)
        status = os.waitstatus_to_exitcode(wait(pid, 0)[1])
        if status:
            raise OSError(status, f"in a child: {os.strerror(status)}")

    return container


def _in_place(letter: str, ground: Ground) -> Callable[[], None]:
    """The method without its setns(2): a namespace that nobody enters ends with its handle."""
    return partial(_method(letter).run, calls.staying(), ground.root)


def repeated(container: Callable[[], None], seconds: float) -> Done:
    """Call *container* again and again, once at least, until so much time is over."""
    clock, limit = time.perf_counter_ns, int(seconds * 1e9)
    batch, count = 1, 0
    begin = last = clock()
    while True:
        for _ in repeat(None, batch):
            container()
        count += batch
        now = clock()
        if now - begin >= limit:
            return Done(count, (now - begin) / 1e9)
        if (now - last) * 2 * _BATCHES < limit:
            batch *= 2
        last = now


def _bystander(ground: Ground) -> Callable[[], None]:
    """Mount and unmount something in the first namespace."""
    kernel, bind, detach = calls.real(), int(MS_BIND), MNT_DETACH
    mount, umount2, source, target = kernel.mount, kernel.umount2, ground.leaf, ground.bystander

    def mounted() -> None:
        mount(source, target, None, bind, None)
        umount2(target, detach)

    return mounted


def _timed(function: Callable[[], None], seconds: float) -> Done:
    """Call *function* again and again, once at least, until so much time is over; time each."""
    clock, limit = time.perf_counter_ns, int(seconds * 1e9)
    latencies: list[int] = []
    begin = last = clock()
    while not latencies or last - begin < limit:
        function()
        now = clock()
        latencies.append(now - last)
        last = now
    return Done(len(latencies), (last - begin) / 1e9, latencies)


def _counter() -> int:
    """The id of a mount made now: the kernel numbers them."""
    with closing_fd(open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)) as fd:
        return mnt_id_of(fd)


def _standpoint() -> tuple[int, tuple[int, int], str]:
    """Where the process is: mount namespace, root directory, and the file system of that."""
    root = statmount(mnt_id_of("/"))
    return root.mnt_ns_id, ns_inode("/"), root.fs_type


def too_old() -> str:
    """Return why containers cannot be looked at on this kernel; empty when they can."""
    try:
        if _standpoint()[0]:
            return ""
    except OSError:
        pass
    return "the kernel does not tell mount namespaces and mounts apart: Linux 6.11 is needed"


def look(method: Method, ground: Ground) -> Container:
    """Make one container in the calling process, see that it is one, and return from it.

    Mounts that others make at the same time count as created.

    :raises NoContainer: it is none.
    """
    home, source = _standpoint()[0], ns_inode(os.fsdecode(ground.root))
    before = _counter()
    method.run(calls.real(), ground.root)
    here, root, kind = _standpoint()
    mounts = len(listmount())
    setns(ground.home, CLONE_NEWNS)
    if here == home or (kind != "tmpfs" or root == source if method.fresh else root != source):
        raise NoContainer(
            f"({method.letter}) ended in namespace {here:#x} (from {home:#x}), on a"
            f" {kind} root {root} (source {source})"
        )
    return Container(_counter() - before - 1, mounts)


def _look_in_child(letter: str, ground: Ground) -> Container:
    return in_child(lambda: look(METHODS[letter], ground))


def perform(job: Job, ground: Ground) -> Done | Container:
    """Do *job* in the calling process, which must be in *ground*."""
    match job.way:
        case "calls":
            return repeated(_in_calls(job.letter, calls.real(), ground), job.seconds)
        case "hollow":
            return repeated(_in_calls(job.letter, calls.hollow(), ground), job.seconds)
        case "process":
            return repeated(_in_process(job.letter, ground), job.seconds)
        case "fork":
            return repeated(_in_fork(job.letter, calls.real(), ground), job.seconds)
        case "handle":
            return repeated(_in_place(job.letter, ground), job.seconds)
        case "bystander":
            return _timed(_bystander(ground), job.seconds)
        case "forker":
            return _timed(_in_process(NOTHING.letter, ground), job.seconds)
        case "reader" | "reader-busy":
            return reading(job.letter, ground, lambda read: repeated(read, job.seconds))
        case "look":
            return _look_in_child(job.letter, ground)
    assert_never(job.way)
