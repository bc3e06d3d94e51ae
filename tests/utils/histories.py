# SPDX-License-Identifier: GPL-2.0-only
"""Histories: namespaces are copied, entered and closed while mounts come and go in all of them.

A history is plain data, as a program is (see :mod:`tests.utils.programs`): it prints as the
expression that makes it. An event that means nothing in its place does nothing. After each event
every namespace must hold what :class:`_World` says.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.utils.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MNT_DETACH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.handover import fds_from_child
from tests.utils.model import namespace_tree, tree_of
from tests.utils.mounts import mnt_id_of, mount_table
from tests.utils.nsfs import current_mnt_ns
from tests.utils.propagation import Propagation
from tests.utils.syscalls import closing_fd, mount, open_tree, setns, umount2, unshare
from tests.utils.trees import propagation, tmpfs

#: The mounts of the tree by the names they have in events, and where they are.
MOUNTS = {"top": ".", "sub": "sub"}
#: Where mounts come and go: on which mount.
PLACES = {"a": "top", "b": "top", "sub/a": "sub", "sub/b": "sub"}
TYPES = {"private": MS_PRIVATE, "shared": MS_SHARED, "slave": MS_SLAVE}
#: The first word of an event, and what follows the number of a namespace.
EVENTS = {
    "copy": (),
    "copy-foreign": (),
    "close": (),
    "enter": (),
    "mount": tuple(PLACES),
    "umount": tuple(PLACES),
    **dict.fromkeys(TYPES, tuple(MOUNTS)),
}


@dataclass(frozen=True)
class History:
    """What happens, in order, and the types of the two mounts to begin with.

    ``"mount 1 sub/a"`` happens in the second of the namespaces there are, counted round; the first
    is the caller's.
    """

    events: tuple[str, ...]
    types: tuple[str, str] = ("shared", "shared")


@dataclass
class _World:
    """What must be where."""

    ties: Propagation
    #: Per namespace: the places with a mount of their own, and whether it is locked there.
    extra: dict[int, dict[str, bool]]
    #: Who made the namespace: the owner of the first, or a foreign caller.
    foreign: dict[int, bool]

    def points(self, number: int) -> list[str]:
        """The mount points of a namespace."""
        return sorted(["/", "/sub", *(f"/{place}" for place in self.extra[number])])

    def reached(self, number: int, place: str) -> list[int]:
        """The namespaces that a mount or umount on *place* reaches."""
        found = self.ties.reached((number, PLACES[place]))
        return [other for other, _ in found]

    def umount(self, number: int, place: str) -> str:
        """Take the mount at *place* away; the errno when that must be refused."""
        if self.extra[number].get(place, True):
            return "EINVAL"
        for other in self.reached(number, place):
            # A lock holds against those inside, not against the side the mount came from.
            self.extra[other].pop(place, None)
        return ""

    def copy(self, source: int, number: int, *, foreign: bool) -> None:
        """Namespace *number* is a copy of *source*."""
        for name in MOUNTS:
            self.ties.copy((source, name), (number, name), foreign=foreign)
        locked = dict.fromkeys(self.extra[source], True)
        self.extra[number] = locked if foreign else dict(self.extra[source])
        self.foreign[number] = foreign

    def close(self, number: int) -> None:
        """The namespace is gone."""
        for name in MOUNTS:
            self.ties.remove((number, name))
        del self.extra[number], self.foreign[number]


class _Play:
    """A history as it happens."""

    def __init__(self, top: Path) -> None:
        self._top = tmpfs(top)
        for name in ("a", "b", "sub"):
            (top / name).mkdir()
        tmpfs(top / "sub")
        for name in ("a", "b"):
            (top / "sub" / name).mkdir()
        self._home = current_mnt_ns()
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        self._fds: dict[int, int] = {}
        self.world = _World(Propagation(), {0: {}}, {0: False})
        for name in MOUNTS:
            self.world.ties.add((0, name))

    @contextmanager
    def _inside(self, number: int) -> Iterator[Path]:
        """The block is in a namespace; the path is that of the tree."""
        if number == 0:
            yield self._top
            return
        setns(self._fds[number], CLONE_NEWNS)
        try:
            yield Path("/")
        finally:
            setns(self._home, CLONE_NEWNS)

    def event(self, text: str) -> str:
        """Let one event happen; what the kernel does otherwise than predicted."""
        verb, word, *rest = text.split()
        there = sorted(self.world.extra)
        number = there[int(word) % len(there)]
        if verb in ("copy", "copy-foreign"):
            self._copy(number, foreign=verb == "copy-foreign")
        elif verb == "close":
            if number:
                self.world.close(number)
                os.close(self._fds.pop(number))
        elif verb == "enter":
            with self._inside(number) as top:
                points = _points(top)
            if points != self.world.points(number):
                return f"inside: predicted {self.world.points(number)}, the kernel has {points}"
        elif verb in ("mount", "umount"):
            return self._mount(number, *rest) if verb == "mount" else self._umount(number, *rest)
        else:
            self.set_type(number, rest[0], verb)
        return self._difference()

    def set_type(self, number: int, name: str, kind: str) -> None:
        """Change the propagation type of the mount *name* in a namespace."""
        with self._inside(number) as top:
            propagation(top / MOUNTS[name], TYPES[kind])
        change = {
            "private": self.world.ties.make_private,
            "shared": self.world.ties.make_shared,
            "slave": self.world.ties.make_slave,
        }[kind]
        change((number, name))

    def _copy(self, source: int, *, foreign: bool) -> None:
        # A foreign caller's namespace is its own: nobody else is an owner there.
        if self.world.foreign[source]:
            return
        number = max(self.world.extra) + 1
        flags = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
        with self._inside(source) as top:
            if foreign:
                (self._fds[number],) = fds_from_child(lambda: [self._foreign_copy(top, flags)])
            else:
                self._fds[number] = open_tree(AT_FDCWD, top, flags)
        self.world.copy(source, number, foreign=foreign)

    def _foreign_copy(self, top: Path, flags: int) -> int:
        # There is no /proc in a copy.
        maps = {"setgroups": "deny", "uid_map": f"0 {os.geteuid()} 1"}
        maps["gid_map"] = f"0 {os.getegid()} 1"
        unshare(CLONE_NEWUSER)
        for name, text in maps.items():
            with closing_fd(os.open(f"self/{name}", os.O_WRONLY, dir_fd=self._proc)) as file:
                os.write(file, text.encode())
        return open_tree(AT_FDCWD, top, flags)

    def _mount(self, number: int, place: str) -> str:
        reached = self.world.reached(number, place)
        # What happens where something is mounted already is a chapter of its own.
        if any(place in self.world.extra[other] for other in reached):
            return ""
        with self._inside(number) as top:
            mount("tmpfs", top / place, "tmpfs")
        for other in reached:
            self.world.extra[other][place] = False
        return self._difference()

    def _umount(self, number: int, place: str) -> str:
        predicted, made = self.world.umount(number, place), ""
        try:
            with self._inside(number) as top:
                umount2(top / place, MNT_DETACH)
        except OSError as error:
            made = errno.errorcode[error.errno or 0]
        if made != predicted:
            return f"predicted {predicted or 'success'}, the kernel said {made or 'success'}"
        return self._difference()

    def _difference(self) -> str:
        """The first namespace that holds something else than predicted."""
        for number in self.world.extra:
            if number == 0:
                points = _points(self._top)
            else:
                points = sorted(namespace_tree(self._fds[number]).mount_points())
            if points != self.world.points(number):
                predicted = self.world.points(number)
                return f"namespace {number}: predicted {predicted}, the kernel has {points}"
        return ""


def _points(top: Path) -> list[str]:
    """The mount points of the tree at *top*, as the caller sees it."""
    table, mnt_id = mount_table(), mnt_id_of(str(top))
    tree = tree_of(table, next(mount for mount in table if mount.mnt_id == mnt_id))
    length = len(str(top).rstrip("/"))
    return sorted(point[length:] or "/" for point in tree.mount_points())


def deviation(history: History, scratch: Path) -> str:
    """What the kernel makes of *history* otherwise than predicted; empty when nothing.

    For a child that ends afterwards, in a mount namespace of its own.
    """
    play = _Play(scratch)
    for name, kind in zip(MOUNTS, history.types, strict=True):
        play.set_type(0, name, kind)
    for event in history.events:
        if found := play.event(event):
            return f"after {event!r}: {found}"
    return ""
