# SPDX-License-Identifier: GPL-2.0-only
"""The ways to read a table of mounts that are compared, as the system calls they are.

What is read is a copy of the caller's table, made once and private, so that it stays as it is while
others mount. A reading is a program of system calls (bench.program): its buffers and requests are
made beforehand, nothing of Python's runs between two calls, and nothing is made of what was read.
So it is the kernel's part alone; a reader that makes sense of lines or of structs pays for that
besides.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

from bench.calls import Calls
from bench.layout import Ground
from bench.program import Program
from tests.utils.expect import errno_name
from tests.utils.probes import flag
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    LSMT_ROOT,
    MS_PRIVATE,
    MS_REC,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
    Statmount,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_id
from tests.utils.uapi.statmount import MntIdReq, listmount
from tests.utils.uapi.syscalls import closing_fd, mount, open_tree, setns, unshare

T = TypeVar("T")
#: Bytes for each read(2), which fills a page of it; and for what statmount(2) tells of a mount.
_ROOM, _ABOUT = 1 << 16, 4096
#: Ids in a call of listmount(2).
_PAGE = 512
#: What a line of mountinfo has.
_MASK = int(
    Statmount.STATMOUNT_SB_BASIC
    | Statmount.STATMOUNT_MNT_BASIC
    | Statmount.STATMOUNT_PROPAGATE_FROM
    | Statmount.STATMOUNT_MNT_ROOT
    | Statmount.STATMOUNT_MNT_POINT
    | Statmount.STATMOUNT_FS_TYPE
    | Statmount.STATMOUNT_SB_SOURCE
    | Statmount.STATMOUNT_MNT_OPTS
)
_MOUNTINFO = b"self/mountinfo"


@dataclass(frozen=True)
class Table:
    """A copy of the caller's table."""

    #: The namespace it is in.
    fd: int
    ns_id: int
    #: Of all its mounts but the hidden base.
    ids: tuple[int, ...]
    #: A descriptor of /proc.
    proc: int
    #: How many calls of read(2) mountinfo takes, the last one included, which finds its end.
    reads: int


class NotTheTable(Exception):
    """What was read is not all there is."""


@cache
def _copied(ground: Ground) -> Table:
    """The copy of *ground*'s table that this process reads; it goes with the process."""
    if flag.probe().support is flag.Support.PRESENT:
        flags = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        fd = open_tree(AT_FDCWD, "/", flags)
        setns(fd, CLONE_NEWNS)
    else:  # the copies are the same
        unshare(CLONE_NEWNS)
        fd = os.open("self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=ground.proc)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    ids = tuple(listmount())
    info = os.open(_MOUNTINFO, os.O_RDONLY, dir_fd=ground.proc)
    parts = [os.read(info, _ROOM)]
    while parts[-1]:
        parts.append(os.read(info, _ROOM))
    os.close(info)
    setns(ground.home, CLONE_NEWNS)
    if (lines := b"".join(parts).count(b"\n")) != len(ids):
        raise NotTheTable(f"mountinfo has {lines} mounts, listmount(2) {len(ids)}")
    return Table(fd, ns_id(fd), ids, ground.proc, len(parts))


def _requests(ids: Iterable[int], param: int, ns_fd: int = 0, ns_id: int = 0) -> list[MntIdReq]:
    size = ctypes.sizeof(MntIdReq)
    return [MntIdReq(size, ns_fd, mnt_id, param, ns_id) for mnt_id in ids]


def _mountinfo(k: Calls, table: Table) -> None:
    text = ctypes.create_string_buffer(_ROOM)
    info = k.openat(table.proc, _MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
    for _ in range(table.reads):
        k.read(info, text, _ROOM)
    k.close(info)


def _statmount(k: Calls, table: Table, ns_fd: int = 0, ns_id: int = 0) -> None:
    ids, about = (ctypes.c_uint64 * _PAGE)(), ctypes.create_string_buffer(_ABOUT)
    # A page that is full is followed by another, which may have nothing.
    for before in (0, *table.ids[_PAGE - 1 :: _PAGE]):
        (request,) = _requests([LSMT_ROOT], before, ns_fd)
        k.listmount(request, ids, _PAGE, 0)
    for request in _requests(table.ids, _MASK, 0, ns_id):
        k.statmount(request, about, _ABOUT, 0)


def _from_outside(k: Calls, table: Table) -> None:
    _statmount(k, table, table.fd, table.ns_id)


@dataclass(frozen=True)
class Reader:
    """One way to read a table of mounts."""

    letter: str
    #: One word, for tables.
    name: str
    title: str
    run: Callable[[Calls, Table], None]
    #: Whether it reads from inside the namespace.
    inside: bool = True


READERS = {
    reader.letter: reader
    for reader in (
        Reader(
            "m", "mountinfo", "/proc/self/mountinfo: openat, read to its end, close", _mountinfo
        ),
        Reader("s", "statmount", "listmount, and statmount of each mount", _statmount),
        Reader(
            *("n", "by id", "the same by the namespace's descriptor and its id"),
            _from_outside,
            inside=False,
        ),
    )
}


#: What the others are compared with.
MOUNTINFO = "m"


def absent(letter: str) -> str:
    """Return why the running kernel cannot read that way; empty when it can."""
    if READERS[letter].inside:
        return ""
    with closing_fd(current_mnt_ns()) as fd:
        try:
            listmount(ns_fd=fd)
        except OSError as error:
            return f"kernel has no listmount(2) by descriptor (it gave {errno_name(error)})"
    return ""


@cache
def _program(letter: str, ground: Ground) -> Program:
    table = _copied(ground)
    return Program(lambda k: READERS[letter].run(k, table))


def reading(letter: str, ground: Ground, measure: Callable[[Callable[[], None]], T]) -> T:
    """Return what *measure* makes of reading the copy once; the process stands where it must."""
    program = _program(letter, ground)
    if not READERS[letter].inside:
        return measure(program.run)
    setns(_copied(ground).fd, CLONE_NEWNS)
    try:
        return measure(program.run)
    finally:
        setns(ground.home, CLONE_NEWNS)
