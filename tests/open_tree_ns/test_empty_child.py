# SPDX-License-Identifier: GPL-2.0-only
"""clone3(2) with CLONE_EMPTY_MNTNS: a child in a namespace of nullfs alone, and the flag there."""

from __future__ import annotations

import errno
import os
from functools import partial

import pytest

from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import base_of
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.tasks.process import in_clone3
from tests.utils.uapi.caps import keep_only
from tests.utils.uapi.constants import (
    CLONE_EMPTY_MNTNS,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
)
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import attach

pytestmark = [pytest.mark.rule("E1"), pytest.mark.needs("UNSHARE_EMPTY_MNTNS")]


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(0, id="alone"),
        pytest.param(int(CLONE_NEWNS), id="newns"),
        pytest.param(int(CLONE_NEWUSER), id="newuser", marks=pytest.mark.needs("user namespace")),
        pytest.param(int(CLONE_NEWPID), id="newpid"),
    ],
)
def test_child_stands_on_nullfs(more: int) -> None:
    """The child's namespace is one mount of nullfs, on which root and working directory are, with
    CLONE_NEWNS given or not, with new namespaces of other kinds or without; the parent's stays."""
    before = mount_table()

    def look() -> tuple[list[tuple[str, bool]], set[int], list[str]]:
        mounts = [(mount.fs_type, mount.mnt_parent_id == mount.mnt_id) for mount in mount_table()]
        return mounts, {mnt_id_of("/"), mnt_id_of(".")}, os.listdir("/")

    mounts, places, files = in_clone3(CLONE_EMPTY_MNTNS | more, look)

    assert mounts == [("nullfs", True)]
    assert len(places) == 1, "root and working directory are on two mounts"
    assert files == []
    assert mount_table() == before


def test_flag_in_an_empty_child() -> None:
    """From there the flag makes namespaces of nullfs itself and of what was brought along, which
    have a base like any other; and what was brought along can be attached and entered."""
    tree = fresh_tmpfs()

    def work() -> dict[str, list[str]]:
        made = {"tree": copy("", dirfd=tree), "nullfs": copy("/")}
        attach(tree, "/")
        made["attached"] = copy("", dirfd=tree)
        found = {name: [base_of(fd), *mount_table(ns_fd=fd)] for name, fd in made.items()}
        enter(made["attached"])
        found["entered"] = mount_table()
        return {name: list(map(fs_type, mounts)) for name, mounts in found.items()}

    def fs_type(mount: Mount) -> str:
        return mount.fs_type

    assert in_clone3(CLONE_EMPTY_MNTNS, work) == {
        "tree": ["nullfs", "tmpfs"],
        "nullfs": ["nullfs", "nullfs"],
        "attached": ["nullfs", "tmpfs"],
        "entered": ["tmpfs"],
    }


def test_refusals() -> None:
    """With CLONE_FS, where root and directory would be moved for the parent too, it is EINVAL; and
    without CAP_SYS_ADMIN EPERM."""
    nothing = partial(os.getpid)
    fails(errno.EINVAL, in_clone3, CLONE_EMPTY_MNTNS | CLONE_FS, nothing)
    keep_only()
    fails(errno.EPERM, in_clone3, CLONE_EMPTY_MNTNS, nothing)
