# SPDX-License-Identifier: GPL-2.0-only
"""What a handle is worth to those without privilege who hold it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import tmpfs, write
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign, enter_new_userns
from tests.utils.uapi.caps import capget, effective, keep_only
from tests.utils.uapi.constants import (
    CLONE_NEWPID,
    MS_BIND,
)
from tests.utils.uapi.nsfs import (
    NS_MNT_GET_NEXT,
    NS_MNT_GET_PREV,
    current_mnt_ns,
    exists,
    listns,
    mnt_get_info,
    mnt_get_neighbour,
    ns_get_userns,
    ns_id,
    ns_inode,
)
from tests.utils.uapi.statmount import listmount, mount_table, statmount
from tests.utils.uapi.syscalls import mount, unshare

pytestmark = pytest.mark.needs("user namespace")


def become_nobody() -> None:
    """Take on a uid that owns nothing."""
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    assert capget().effective == 0


@pytest.mark.rule("U4", "U7", "U8")
@pytest.mark.parametrize(
    "lower",
    [
        pytest.param(keep_only, id="no_capabilities"),
        # Root, since a second uid must be mapped.
        pytest.param(become_nobody, id="nobody", marks=pytest.mark.needs("root")),
    ],
)
def test_inherited_by_the_unprivileged(lower: Callable[[], None], scratch: Path) -> None:
    """Who inherits the handle without privilege sees all mounts by it, and its owner; by id there
    is nothing to see, the base is hidden, and it can neither be entered nor mounted."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    target = write(scratch / "target")
    lines = predict_copy(top, recursive=True).lines()
    fd = copy(top, recursive=True)
    mnt_id, ids = ns_id(fd), listmount(ns_fd=fd)
    base = statmount(ids[0], ns_fd=fd).mnt_parent_id

    lower()

    assert namespace_tree(fd).lines() == lines
    assert (mnt_get_info(fd).mnt_ns_id, mnt_get_info(fd).nr_mounts) == (mnt_id, len(ids))
    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    fails(errno.ENOENT, listmount, ns_id=mnt_id)
    fails(errno.EPERM, statmount, ids[0], ns_id=mnt_id)
    fails(errno.EPERM, statmount, base, ns_fd=fd)
    fails(errno.EPERM, listmount, base, ns_fd=fd)
    fails(errno.EPERM, enter, fd)
    fails(errno.EPERM, mount, f"/proc/self/fd/{fd}", target, None, MS_BIND)


@pytest.mark.rule("U4", "U7")
def test_creator_of_the_owner(scratch: Path) -> None:
    """The uid that made a user namespace has power over what that owns, capabilities or not: it
    sees the namespace by id. It cannot enter, for want of capabilities at home: EPERM."""
    leaf = tmpfs(scratch / "leaf")

    def made_below() -> list[int]:
        become_foreign()
        return [copy(leaf)]

    (fd,) = fds_from_child(made_below)

    keep_only()

    assert listmount(ns_id=ns_id(fd)) == listmount(ns_fd=fd)
    assert mount_table(ns_id=ns_id(fd)) == mount_table(ns_fd=fd)
    fails(errno.EPERM, enter, fd)


@pytest.mark.rule("U7")
def test_own_namespace_by_its_id(scratch: Path) -> None:
    """Who is inside sees the same by the namespace's id as without, and needs no privilege."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    fd = copy(top, recursive=True)
    mnt_ns_id = ns_id(fd)
    enter(fd)
    table = mount_table()

    with effective(0):
        found = {"by id": mount_table(ns_id=mnt_ns_id), "without": mount_table()}

    assert [mount.mnt_point for mount in table] == ["/", "/child"]
    assert found == {"by id": table, "without": table}


@pytest.mark.rule("U9")
@fixes.NEIGHBOURS_PERMISSION
@pytest.mark.isolated(pid_namespace=False)  # so that it is not that alone which refuses
@pytest.mark.parametrize(
    "state",
    [
        "foreign",
        pytest.param("no_capabilities", marks=pytest.mark.needs("sight of all namespaces")),
        pytest.param(
            "new_pid_namespace",
            marks=pytest.mark.needs("sight of all namespaces", "PID namespace"),
        ),
    ],
)
def test_neighbours_are_for_the_privileged(state: str, scratch: Path) -> None:
    """NS_MNT_GET_NEXT and NS_MNT_GET_PREV are EPERM without CAP_SYS_ADMIN in the initial user
    namespace, and outside the initial PID namespace, on the owner's own handle too."""
    leaf = tmpfs(scratch / "leaf")
    if state == "foreign":
        become_foreign()
    fds = [copy(leaf) for _ in range(3)]

    def ask() -> list[Outcome]:
        return [
            outcome(mnt_get_neighbour, fds[1], request)
            for request in (NS_MNT_GET_NEXT, NS_MNT_GET_PREV)
        ]

    if state != "foreign":
        assert in_child(ask) == ["success", "success"]
    if state == "no_capabilities":
        keep_only()
    elif state == "new_pid_namespace":
        unshare(CLONE_NEWPID)

    # In a child, since it is children that are in a new PID namespace.
    assert in_child(ask) == ["EPERM", "EPERM"]


@pytest.mark.rule("BL1", "R6")
@fixes.LISTNS_PERMISSION
@fixes.LISTNS_REFERENCE
@pytest.mark.needs("listns", "user namespace")
@pytest.mark.parametrize("state", ["foreign", "no_capabilities"])
@pytest.mark.room(mount_namespaces=60, descriptors=100)
@pytest.mark.upstream("listns_permissions_test.listns_unprivileged_current_only")
@pytest.mark.upstream("listns_permissions_test.listns_cannot_see_sibling_userns_namespaces")
@pytest.mark.upstream("listns_permissions_test.listns_drop_cap_sys_admin")
def test_listns_as_a_non_owner(state: str, scratch: Path) -> None:
    """Without privilege in the initial user namespace listns(2) lists no namespace but one's own,
    and does nothing to those it leaves out: they go when their last handle is closed."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(50)]
    numbers = [ns_id(fd) for fd in fds]
    own = ns_id(current_mnt_ns())

    def ask() -> list[list[int]]:
        if state == "foreign":
            enter_new_userns()
        else:
            keep_only()
        return [listns() for _ in range(20)]

    assert in_child(ask) == [[own]] * 20
    assert [exists(number) for number in numbers] == [True] * len(fds)
    for fd in fds:
        os.close(fd)
    assert gone(*numbers)
