# SPDX-License-Identifier: GPL-2.0-only
"""User namespaces and their id maps (user_namespaces(7)).

A caller is *foreign* to a mount namespace when its user namespace is not the one that owns it.
Every case starts as the owner of its mount namespace; :func:`become_foreign` changes sides.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.utils.tasks.process import holding
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget
from tests.utils.uapi.constants import CLONE_NEWNS, CLONE_NEWUSER, MS_PRIVATE, MS_REC
from tests.utils.uapi.syscalls import mount, unshare

T = TypeVar("T")


def write_maps(pid: int | str, uid_map: str, gid_map: str) -> None:
    """Write the id maps of *pid*'s user namespace: lines of ``inside outside count``."""
    if pid == "self":
        # Needed by a gid map written without CAP_SETGID in the parent user namespace.
        Path("/proc/self/setgroups").write_text("deny")
    Path(f"/proc/{pid}/uid_map").write_text(uid_map)
    Path(f"/proc/{pid}/gid_map").write_text(gid_map)


def enter_new_userns() -> None:
    """Move to a new child user namespace, with the caller mapped to 0 and all capabilities."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    write_maps("self", f"0 {uid} 1", f"0 {gid} 1")


def become_foreign() -> None:
    """Stop owning the mount namespace one is in: root in a new user namespace, nothing else."""
    enter_new_userns()


def enter_new_mount_ns() -> None:
    """Move to a copy of the mount namespace, owned by the caller's user namespace, private."""
    unshare(CLONE_NEWNS)
    mount(None, "/", None, MS_REC | MS_PRIVATE)


def in_own_mount_ns(function: Callable[[], T]) -> Callable[[], T]:
    """Return *function*, to be run in a mount namespace of its own, and in a user namespace where
    the caller is not privileged: for the process helpers."""

    def run() -> T:
        if not capget().has(CAP_SYS_ADMIN):
            enter_new_userns()
        enter_new_mount_ns()
        return function()

    return run


def userns_fd(uid_map: str, gid_map: str) -> int:
    """Return a descriptor of a new user namespace with these maps, for an idmapped mount.

    Maps of more than the caller's own id need CAP_SETUID and CAP_SETGID over the caller's user
    namespace.
    """
    with holding(lambda: unshare(CLONE_NEWUSER)) as child:
        write_maps(child.pid, uid_map, gid_map)
        return os.open(child.proc("ns/user"), os.O_RDONLY | os.O_CLOEXEC)


def as_foreign(function: Callable[[], T]) -> Callable[[], T]:
    """Return *function*, to be run as a foreign caller: for the process helpers."""

    def run() -> T:
        become_foreign()
        return function()

    return run


def is_initial_userns() -> bool:
    """Return whether the caller is in the initial user namespace, as far as its id map tells."""
    return Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
