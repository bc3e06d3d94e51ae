# SPDX-License-Identifier: GPL-2.0-only
"""Mounts of a copy that are in use when the mount that they were copied from is unmounted."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy_by, mount_points
from tests.utils.expect import fails
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.uapi.constants import MNT_DETACH, MS_REC, MS_SHARED, MS_SLAVE
from tests.utils.uapi.statmount import listmount, mount_table
from tests.utils.uapi.syscalls import mount, umount2

OPEN = partial(os.open, "/victim", os.O_PATH | os.O_DIRECTORY)


def shared_tree(scratch: Path) -> Path:
    """Make a shared mount with a mount "victim" on it."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "victim", "file.txt")
    return top


@pytest.mark.rule("G7")
def test_source_of_a_mount_in_use_is_busy(caller: Caller, scratch: Path) -> None:
    """A plain umount(2) at the source that would take along the copy's mount is EBUSY while that is
    in use, and takes neither; once it is not, it takes both."""
    top = shared_tree(scratch)
    copied = copy_by(caller, top)
    used = copied.opened_inside(OPEN)

    fails(errno.EBUSY, umount2, top / "victim")
    left = mount_points(copied.ns_fd), os.listdir(top / "victim")
    os.close(used)
    umount2(top / "victim")

    assert left == (["/", "/victim"], ["file.txt"])
    assert (mount_points(copied.ns_fd), os.listdir(top / "victim")) == (["/"], [])


@pytest.mark.rule("G7")
def test_lazy_umount_minds_no_use(caller: Caller, scratch: Path) -> None:
    """A lazy umount at the source takes the copy's mount along though it is in use; whoever uses it
    goes on doing so."""
    top = shared_tree(scratch)
    copied = copy_by(caller, top)
    used = copied.opened_inside(OPEN)

    umount2(top / "victim", MNT_DETACH)

    assert mount_points(copied.ns_fd) == ["/"]
    assert os.listdir(f"/proc/self/fd/{used}") == ["file.txt"]


@pytest.mark.rule("G7")
@fixes.BUSY_COPIES
@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(Caller.OWNER, id="owner"),
        pytest.param(
            Caller.FOREIGN,
            id="foreign",
            marks=[pytest.mark.needs("user namespace"), fixes.TRANSFERRED_LOCK],
        ),
    ],
)
@pytest.mark.upstream("umount_propagation.busy_copy_pulled_out")
def test_mount_beneath_in_use_is_busy(caller: Caller, scratch: Path) -> None:
    """What counts is the mount that would go in the copy, and not the topmost: that is a tree put
    beneath, and while it is in use the source is EBUSY. Then it goes, and what was on top of it
    slides down to its place."""
    top = shared_tree(scratch)
    copied = copy_by(caller, top)
    root, victim = listmount(ns_fd=copied.ns_fd)

    def put_beneath() -> int:
        mount(None, "/", None, MS_SLAVE | MS_REC)
        tree = clone("/", recursive=True)
        attach_beneath(tree, "/victim")
        return tree

    used = copied.opened_inside(put_beneath)
    before = mount_table(ns_fd=copied.ns_fd)
    assert len(before) == 4

    fails(errno.EBUSY, umount2, top / "victim")
    left = mount_table(ns_fd=copied.ns_fd)
    os.close(used)
    umount2(top / "victim")

    assert left == before
    now = [(mount.mnt_id, mount.mnt_parent_id) for mount in mount_table(ns_fd=copied.ns_fd)]
    assert now[1:] == [(victim, root)]
