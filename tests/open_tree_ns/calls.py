# SPDX-License-Identifier: GPL-2.0-only
"""The calls that most cases make, spelt once: copy a tree, clone a tree, enter a namespace.

Cases about flags, paths and precedence make the bare calls of :mod:`tests.utils.uapi.syscalls`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from tests.open_tree_ns.caller import Caller
from tests.utils.expect import shorthand
from tests.utils.mounts.copies import Copy, made_in_child
from tests.utils.tasks.process import in_clone3
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_EMPTY_MNTNS,
    CLONE_NEWNS,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_SET_GROUP,
    MOVE_MOUNT_T_EMPTY_PATH,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
    UNSHARE_EMPTY_MNTNS,
    OpenTree,
)
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import PathLike, move_mount, open_tree, setns, unshare

T = TypeVar("T")

#: The flag as the cases use it: not recursive.
NAMESPACE = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC


def _variants(flags: OpenTree) -> dict[tuple[bool, bool], OpenTree]:
    """Return *flags* for calls that are recursive or not, with an empty path or not.

    Prepared, since to combine flags takes as long as the call.
    """
    return {
        (False, False): flags,
        (False, True): flags | AT_EMPTY_PATH,
        (True, False): flags | AT_RECURSIVE,
        (True, True): flags | AT_RECURSIVE | AT_EMPTY_PATH,
    }


_COPY = _variants(NAMESPACE)
_CLONE = _variants(OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)


@shorthand
def copy(path: PathLike, *, recursive: bool = False, dirfd: int = AT_FDCWD) -> partial[int]:
    """Copy the mount at *path* to a new mount namespace and return the namespace's descriptor.

    :param path: the directory; "" is the one that *dirfd* names.
    :param recursive: copy the mounts below the directory too.
    :raises OSError: open_tree(2) with OPEN_TREE_NAMESPACE was refused.
    """
    return partial(open_tree, dirfd, path, _COPY[recursive, path == ""])


@shorthand
def clone(path: PathLike, *, recursive: bool = False, dirfd: int = AT_FDCWD) -> partial[int]:
    """Clone the mount at *path* to a detached tree and return its descriptor; see :func:`copy`.

    :raises OSError: open_tree(2) with OPEN_TREE_CLONE was refused.
    """
    return partial(open_tree, dirfd, path, _CLONE[recursive, path == ""])


@shorthand
def enter(ns_fd: int) -> partial[None]:
    """Move the caller to the mount namespace *ns_fd*.

    :raises OSError: setns(2) with CLONE_NEWNS was refused.
    """
    return partial(setns, ns_fd, CLONE_NEWNS)


@shorthand
def attach_beneath(tree_fd: int, path: PathLike) -> partial[int]:
    """Move the detached tree *tree_fd* beneath the topmost mount at *path*.

    :raises OSError: move_mount(2) with MOVE_MOUNT_BENEATH was refused.
    """
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH
    return partial(move_mount, tree_fd, "", AT_FDCWD, path, flags)


@shorthand
def set_group(group_of: int, target: int) -> partial[int]:
    """Give the mount *target* the peers and the master of another.

    :raises OSError: move_mount(2) with MOVE_MOUNT_SET_GROUP was refused.
    """
    flags = MOVE_MOUNT_SET_GROUP | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    return partial(move_mount, group_of, "", target, "", flags)


def in_cloned_empty(flags: int, function: Callable[[], T]) -> T:
    """Return what *function* returns in a child of clone3(2) that starts in an empty namespace.

    :raises OSError: clone3(2) was refused.
    """
    return in_clone3(CLONE_EMPTY_MNTNS | flags, function)


def in_empty_namespaces(flags: int, function: Callable[[], T]) -> dict[str, T]:
    """Return what *function* returns in an empty mount namespace, by both ways into one.

    The caller is in the latter afterwards. Neither way needs /proc.
    """
    found = {"clone3": in_cloned_empty(flags, function)}
    unshare(UNSHARE_EMPTY_MNTNS | flags)
    return {**found, "unshare": function()}


def mount_points(ns_fd: int = -1) -> list[str]:
    """Return the mount points of a namespace, the caller's by default, in the order of its list."""
    return [mount.mnt_point or "" for mount in mount_table(ns_fd=ns_fd)]


def enter_top(ns_fd: int) -> int:
    """Enter the namespace *ns_fd*, check that root and working directory are its top, and return
    the id of that mount."""
    top = listmount(ns_fd=ns_fd)[0]
    enter(ns_fd)
    where = {path: mnt_id_of(path) for path in ("/", ".")}
    assert where == {"/": top, ".": top}, f"setns(2) led to the mounts {where}, not to {top}"
    return top


def place() -> dict[str, tuple[int, tuple[int, int]]]:
    """Return mount id and inode of the caller's root, of its directory, and above them."""
    return {path: (mnt_id_of(path), ns_inode(path)) for path in ("/", ".", "..", "/..")}


def copy_by(caller: Caller, top: Path) -> Copy:
    """Have *caller* make a recursive copy of *top* in a child process."""
    return made_in_child(caller.act, partial(copy, top, recursive=True))
