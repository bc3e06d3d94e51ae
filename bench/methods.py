# SPDX-License-Identifier: GPL-2.0-only
"""The ways to a container's mount namespace that are compared, as the system calls they are.

Each method starts in the caller's mount namespace and ends in a new one, with the directory *root*
for its root (or, where there is no source, a new tmpfs). Nothing is prepared beforehand.

(a) is the sequence of the reproducer in the discussion of the flag's patches (linux-fsdevel,
2026-01-05), which has it from minijail; (f) is the one proposed there in reply.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from bench.calls import Calls, recorded
from tests.utils.probes import flag
from tests.utils.probes.features import FEATURES
from tests.utils.uapi import constants as c

_CLOEXEC = int(c.OPEN_TREE_CLOEXEC)
_NAMESPACE = int(c.OPEN_TREE_NAMESPACE) | _CLOEXEC
_CLONE = int(c.OPEN_TREE_CLONE) | _CLOEXEC
_RECURSIVE = int(c.AT_RECURSIVE)
_NEWNS = int(c.CLONE_NEWNS)
_BIND = int(c.MS_BIND | c.MS_REC)
_PRIVATE = int(c.MS_PRIVATE | c.MS_REC)
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FSMOUNT = int(c.FSMOUNT_NAMESPACE | c.FSMOUNT_CLOEXEC)
_FSOPEN_CLOEXEC = 1
_BENEATH = int(c.MOVE_MOUNT_F_EMPTY_PATH | c.MOVE_MOUNT_BENEATH)
_CREATE = c.FSCONFIG_CMD_CREATE
_HERE = c.AT_FDCWD
_DETACH = c.MNT_DETACH


def nothing(k: Calls, root: bytes) -> None:
    """No container at all: what is left is the measuring itself (and the fork)."""


def minijail(k: Calls, root: bytes) -> None:
    """Copy the whole table, change the root, throw the copies away again: as minijail does it."""
    k.unshare(_NEWNS)
    k.mount(None, b"/", None, _PRIVATE, None)
    old = k.open(b"/", _DIRECTORY)
    new = k.open(root, _DIRECTORY)
    k.mount(root, root, None, _BIND, None)
    k.chdir(root)
    k.pivot_root(b".", b".")
    k.fchdir(old)
    k.mount(None, b".", None, _PRIVATE, None)
    k.umount2(b".", _DETACH)
    k.fchdir(new)
    k.close(old)
    k.close(new)


def shortest_pivot(k: Calls, root: bytes) -> None:
    """The same with the fewest calls (pivot_root(2), "pivot_root(".", ".")")."""
    k.unshare(_NEWNS)
    k.mount(None, b"/", None, _PRIVATE, None)
    k.mount(root, root, None, _BIND, None)
    k.chdir(root)
    k.pivot_root(b".", b".")
    k.umount2(b".", _DETACH)


def one_mount(k: Calls, root: bytes) -> None:
    """The flag: a namespace with a copy of the one mount."""
    namespace = k.open_tree(_HERE, root, _NAMESPACE)
    k.setns(namespace, _NEWNS)
    k.close(namespace)


def whole_tree(k: Calls, root: bytes) -> None:
    """The flag with AT_RECURSIVE: what is mounted below comes along."""
    namespace = k.open_tree(_HERE, root, _NAMESPACE | _RECURSIVE)
    k.setns(namespace, _NEWNS)
    k.close(namespace)


def _enter_fresh_tmpfs(k: Calls) -> None:
    context = k.fsopen(b"tmpfs", _FSOPEN_CLOEXEC)
    k.fsconfig(context, _CREATE, None, None, 0)
    namespace = k.fsmount(context, _FSMOUNT, 0)
    k.setns(namespace, _NEWNS)
    k.close(namespace)
    k.close(context)


def fresh_tmpfs(k: Calls, root: bytes) -> None:
    """A namespace of a new file system: no mount is copied, a superblock is made."""
    _enter_fresh_tmpfs(k)


def swapped_root(k: Calls, root: bytes) -> None:
    """An empty namespace (a bare tmpfs); the root is slid beneath it, and the tmpfs goes."""
    tree = k.open_tree(_HERE, root, _CLONE | _RECURSIVE)
    _enter_fresh_tmpfs(k)
    k.move_mount(tree, b"", _HERE, b"/", _BENEATH)
    k.fchdir(tree)
    k.chroot(b".")
    k.umount2(b".", _DETACH)
    k.close(tree)


_FLAG = "OPEN_TREE_NAMESPACE"


def _missing(need: str) -> str:
    """Why the running kernel has not what is needed; empty when it has."""
    if need == _FLAG:
        found = flag.probe()
        return "" if found.support is flag.Support.PRESENT else found.reason
    missing = FEATURES[need]()
    return missing.reason if missing else ""


@dataclass(frozen=True)
class Method:
    """One way to a container."""

    letter: str
    #: One word, for tables.
    name: str
    title: str
    run: Callable[[Calls, bytes], None]
    #: What it takes of the kernel: the flag, or names in tests.utils.probes.features.
    needs: tuple[str, ...] = ()
    #: Whether its root is a new, empty tmpfs, and no copy.
    fresh: bool = False
    #: Whether it does everything by a handle, which it enters and closes last.
    handle: bool = False

    @property
    def calls(self) -> list[str]:
        """Its system calls, in their order."""
        return recorded(lambda k: self.run(k, b""))

    def absent(self) -> str:
        """Return why the running kernel cannot do it; empty when it can."""
        return next(filter(None, map(_missing, self.needs)), "")


#: The base line: measured with the others, but no method.
NOTHING = Method("-", "nothing", "no container: the measuring itself", nothing)
#: What the others are compared with.
REFERENCE = "a"
METHODS = {
    method.letter: method
    for method in (
        Method("a", "minijail", "unshare and pivot_root, as minijail does it", minijail),
        Method("b", "pivot_root", "the same with the fewest calls", shortest_pivot),
        Method(
            "c", "open_tree", "open_tree(OPEN_TREE_NAMESPACE)", one_mount, (_FLAG,), handle=True
        ),
        Method("d", "recursive", "the same with AT_RECURSIVE", whole_tree, (_FLAG,), handle=True),
        Method(
            *("e", "fsmount", "fsmount(FSMOUNT_NAMESPACE) of a new tmpfs", fresh_tmpfs),
            ("FSMOUNT_NAMESPACE",),
            fresh=True,
            handle=True,
        ),
        Method(
            *("f", "beneath", "that, and its root swapped by MOVE_MOUNT_BENEATH", swapped_root),
            ("FSMOUNT_NAMESPACE", "MOVE_MOUNT_BENEATH on the root"),
        ),
    )
}
