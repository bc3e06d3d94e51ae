# SPDX-License-Identifier: GPL-2.0-only
"""clone3(2) with CLONE_EMPTY_MNTNS: a child in a namespace of nullfs alone, and the flag there."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import partial

import pytest

from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import base_of
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.tasks.process import clone3, in_clone3
from tests.utils.uapi.caps import keep_only
from tests.utils.uapi.constants import (
    CLONE_EMPTY_MNTNS,
    CLONE_FS,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PIDFD,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import Mount, listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import attach, setns

pytestmark = [pytest.mark.rule("E1"), pytest.mark.needs("UNSHARE_EMPTY_MNTNS")]


def upstream(*names: str) -> pytest.MarkDecorator:
    """Name the kernel's selftests, of clone3_empty_mntns_test.c, that a case re-expresses."""
    return pytest.mark.upstream(*(f"clone3_empty_mntns.{name}" for name in names))


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(
            0,
            id="alone",
            marks=upstream(
                "basic",
                "implies_newns",
                "mount_properties",
                "listmount_single_entry",
                "parent_unchanged",
                "many_parent_mounts",
            ),
        ),
        pytest.param(int(CLONE_NEWNS), id="newns", marks=upstream("with_explicit_newns")),
        pytest.param(
            int(CLONE_NEWUSER),
            id="newuser",
            marks=[upstream("with_newuser"), pytest.mark.needs("user namespace")],
        ),
        pytest.param(
            int(CLONE_NEWPID),
            id="newpid",
            marks=[upstream("with_newpid"), pytest.mark.needs("PID namespace")],
        ),
        pytest.param(
            int(CLONE_NEWUTS | CLONE_NEWIPC),
            id="others",
            marks=[
                upstream("with_other_ns_flags"),
                pytest.mark.needs("UTS namespace", "IPC namespace"),
            ],
        ),
    ],
)
def test_child_stands_on_nullfs(more: int) -> None:
    """The child's namespace is one mount of nullfs, on which root and working directory are, with
    CLONE_NEWNS given or not, with new namespaces of other kinds or without; the parent's stays."""
    before = mount_table()

    def look() -> tuple[list[tuple[str, str | None, bool]], list[int], set[int], list[str], int]:
        mounts = [
            (mount.fs_type, mount.mnt_point, mount.mnt_parent_id == mount.mnt_id)
            for mount in mount_table()
        ]
        return mounts, listmount(), {mnt_id_of("/"), mnt_id_of(".")}, os.listdir("/"), os.getpid()

    mounts, listed, places, files, pid = in_clone3(CLONE_EMPTY_MNTNS | more, look)

    assert mounts == [("nullfs", "/", True)]
    assert places == set(listed), "root and working directory are on two mounts"
    assert files == []
    assert (pid == 1) == bool(more & CLONE_NEWPID)
    assert mount_table() == before


@upstream("repeated")
def test_each_child_has_one_of_its_own() -> None:
    """Two children are in two namespaces, on two mounts."""
    roots = [in_clone3(CLONE_EMPTY_MNTNS, partial(mnt_id_of, "/")) for _ in range(2)]
    assert roots == sorted(set(roots))


@upstream("with_pidfd", "setns_into_child_mntns")
def test_child_can_be_joined() -> None:
    """With CLONE_PIDFD there is a pidfd of the child, by which its namespace is entered; so it is
    by the namespace's file."""
    stay_read, stay_write = os.pipe()
    pidfd, here = ctypes.c_int(-1), current_mnt_ns()
    pid = clone3(CLONE_EMPTY_MNTNS | CLONE_PIDFD, pidfd)
    if pid == 0:
        os.close(stay_write)
        os.read(stay_read, 1)
        os._exit(0)
    file = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    found = []
    for fd in (pidfd.value, file):
        setns(fd, CLONE_NEWNS)
        found.append((mnt_id_of("/"), [mount.fs_type for mount in mount_table()]))
        enter(here)
    os.close(stay_write)
    os.waitpid(pid, 0)

    assert found[0] == found[1]
    assert [fs_types for _, fs_types in found] == [["nullfs"], ["nullfs"]]


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


@upstream("with_clone_fs_fails")
def test_refusals() -> None:
    """With CLONE_FS, where root and directory would be moved for the parent too, it is EINVAL; and
    without CAP_SYS_ADMIN EPERM."""
    nothing = partial(os.getpid)
    fails(errno.EINVAL, in_clone3, CLONE_EMPTY_MNTNS | CLONE_FS, nothing)
    keep_only()
    fails(errno.EPERM, in_clone3, CLONE_EMPTY_MNTNS, nothing)
