# SPDX-License-Identifier: GPL-2.0-only
"""Histories: namespaces are copied, entered and closed while mounts come and go in all of them.

A history is plain data, as a program is (see :mod:`tests.utils.search.programs`): it prints as the
expression that makes it. After each event every namespace must hold what the model says
(:mod:`tests.utils.model.namespaces`), which also says which events can follow on each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.utils.expect import SUCCESS, errno_name
from tests.utils.model.namespaces import COPIES, MOUNTS, World
from tests.utils.model.prediction import Node, namespace_tree, tree_of
from tests.utils.model.propagation import Groups, renumbered
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.search.steps import ATTRIBUTES
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    MNT_DETACH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
    PROPAGATION_TYPES,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_get_userns, ns_id
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import (
    closing_fd,
    mount,
    mount_setattr,
    open_tree,
    setns,
    umount2,
    unshare,
)

_FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_RECURSIVE


@dataclass(frozen=True)
class History:
    """What happens, in order, and the types of the two mounts to begin with.

    ``"mount 1 sub/a"`` happens in the namespace that was made first; 0 is the caller's.
    """

    events: tuple[str, ...]
    types: tuple[str, str] = ("shared", "shared")


class _Executor:
    """A history as it happens in a kernel."""

    def __init__(self, top: Path, types: tuple[str, str]) -> None:
        self._top = tmpfs(top)
        for name in ("a", "b", "sub"):
            (top / name).mkdir()
        tmpfs(top / "sub")
        for name in ("a", "b"):
            (top / "sub" / name).mkdir()
        self._home = current_mnt_ns()
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        self._fds: dict[int, int] = {}
        self._last = 0
        self._world = World(types)
        for name, kind in zip(MOUNTS, types, strict=True):
            propagation(_at(top, MOUNTS[name]), PROPAGATION_TYPES[kind])

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
        """Apply one event; return what the kernel does otherwise than predicted."""
        predicted, made = self._world.apply(text) or SUCCESS, SUCCESS
        verb, word, *rest = text.split()
        number = int(word)
        try:
            if verb in COPIES:
                self._copy(number, verb)
            elif verb == "close":
                if self._close(number):
                    return f"namespace {number} still exists"
            else:
                with self._inside(number) as top:
                    if verb == "enter":
                        return self._compared("inside", number, _tree_at(top))
                    self._change(top, verb, *rest)
        except OSError as error:
            made = errno_name(error)
        if made != predicted:
            return f"predicted {predicted}, the kernel made it {made}"
        return self._difference()

    def _change(self, top: Path, verb: str, name: str = "", attribute: str = "") -> None:
        """What happens inside a namespace."""
        if verb == "mount":
            mount("tmpfs", top / name, "tmpfs")
        elif verb == "umount":
            umount2(top / name, MNT_DETACH)
        elif verb in PROPAGATION_TYPES:
            propagation(_at(top, MOUNTS[name]), PROPAGATION_TYPES[verb])
        elif verb == "restrict":
            mount_setattr(AT_FDCWD, _at(top, MOUNTS[name]), 0, attr_set=ATTRIBUTES[attribute])
        elif verb == "relax":
            mount_setattr(AT_FDCWD, _at(top, MOUNTS[name]), 0, attr_clr=ATTRIBUTES[attribute])

    def _copy(self, source: int, verb: str) -> None:
        self._last += 1
        owner = self._world.owner[self._last]

        def copy(top: Path) -> int:
            if self._world.owner[source]:
                setns(ns_get_userns(self._fds[source]), CLONE_NEWUSER)
            if verb == "copy-foreign":
                self._enter_new_userns()
            return open_tree(AT_FDCWD, top, _FLAGS)

        with self._inside(source) as top:
            if owner:
                (self._fds[self._last],) = fds_from_child(lambda: [copy(top)])
            else:
                self._fds[self._last] = open_tree(AT_FDCWD, top, _FLAGS)

    def _enter_new_userns(self) -> None:
        # There is no /proc in a copy.
        maps = {"setgroups": "deny", "uid_map": f"0 {os.geteuid()} 1"}
        maps["gid_map"] = f"0 {os.getegid()} 1"
        unshare(CLONE_NEWUSER)
        for name, text in maps.items():
            with closing_fd(os.open(f"self/{name}", os.O_WRONLY, dir_fd=self._proc)) as file:
                os.write(file, text.encode())

    def _close(self, number: int) -> bool:
        """Let go of a namespace; whether it is still there."""
        fd = self._fds.pop(number)
        identity = ns_id(fd)
        os.close(fd)
        return not gone(identity)

    def _difference(self) -> str:
        """The first namespace that holds something else than predicted, or is tied otherwise."""
        groups: dict[tuple[int, str], Groups] = {}  # as the kernel numbers them
        for number in self._world.owner:
            tree = namespace_tree(self._fds[number]) if number else _tree_at(self._top)
            if found := self._compared(f"namespace {number}", number, tree):
                return found
            points = dict(_mounts(tree))
            for name, point in MOUNTS.items():
                node = points[point]
                groups[number, name] = node.mnt_peer_group, node.mnt_master
        predicted, made = renumbered(self._world.groups()), renumbered(groups)
        if made != predicted:
            return f"peer groups and masters: predicted {predicted}, the kernel has {made}"
        return ""

    def _compared(self, where: str, number: int, tree: Node) -> str:
        predicted, made = self._world.holds(number), _holds(tree)
        return "" if made == predicted else f"{where}: predicted {predicted}, the kernel has {made}"


def _at(top: Path, point: str) -> Path:
    return top / point.strip("/")


def _tree_at(top: Path) -> Node:
    """The part of the caller's mounts that starts at *top*."""
    table, mnt_id = mount_table(), mnt_id_of(str(top))
    return tree_of(table, next(mount for mount in table if mount.mnt_id == mnt_id))


def _mounts(tree: Node) -> Iterator[tuple[str, Node]]:
    """The mounts of a tree, and where in it they are."""
    length, todo = len(tree.mnt_point.rstrip("/")), [tree]
    while todo:
        node = todo.pop()
        yield node.mnt_point[length:] or "/", node
        todo += node.children


def _holds(tree: Node) -> list[str]:
    """The mounts of a tree as the model names them."""
    return sorted(
        " ".join((point, *sorted(name for name, bit in ATTRIBUTES.items() if bit in node.mnt_attr)))
        for point, node in _mounts(tree)
    )


def mismatch(history: History, scratch: Path) -> str:
    """Return what the kernel makes of *history* otherwise than predicted; empty when nothing.

    For a child that ends afterwards, in a mount namespace of its own.
    """
    play = _Executor(scratch, history.types)
    for event in history.events:
        if found := play.event(event):
            return f"after {event!r}: {found}"
    return ""
