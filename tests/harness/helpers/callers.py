# SPDX-License-Identifier: GPL-2.0-only
"""Users that tests run cases as, and what they may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns, write_maps
from tests.utils.uapi.constants import CLONE_NEWUSER, MS_BIND, MS_REC
from tests.utils.uapi.syscalls import mount, unshare

NOBODY = 65534


def closed(path: Path) -> Path | None:
    """The first directory on the way to *path* that others may not pass through."""
    way = reversed([path, *path.parents])
    return next((part for part in way if part.is_dir() and not part.stat().st_mode & 1), None)


def make_reachable(needed: list[Path]) -> None:
    """Have others reach *needed*, in a mount namespace of its own."""
    obstacles = {path: found for path in needed if (found := closed(path))}
    if obstacles:
        enter_new_mount_ns()
        held = {path: os.open(path, os.O_PATH) for path in obstacles}
        for obstacle in set(obstacles.values()):
            mount("tmpfs", obstacle, "tmpfs", 0, "mode=755")
        for path, fd in held.items():
            path.mkdir(parents=True, exist_ok=True)
            mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)


def become_nobody(needed: list[Path]) -> None:
    """Drop to an unprivileged user who can reach *needed*, in a mount namespace of its own."""
    make_reachable(needed)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def forbid_namespaces() -> None:
    """Become a user who may make no user namespace, and nothing else either."""
    uid, gid = os.geteuid(), os.getegid()
    unshare(CLONE_NEWUSER)
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    # Not 0 inside: the capabilities go with the next program.
    write_maps("self", f"1000 {uid} 1", f"1000 {gid} 1")


def user_namespaces() -> None:
    """Skip where there are none."""
    try:
        in_child(enter_new_userns)
    except OSError as error:
        pytest.skip(f"no user namespaces: {error}")
