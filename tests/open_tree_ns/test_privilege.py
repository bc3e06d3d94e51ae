# SPDX-License-Identifier: GPL-2.0-only
"""Who may make a namespace, who owns it, and who may enter it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign, enter_new_userns
from tests.utils.uapi.caps import (
    CAP_SYS_ADMIN,
    CAP_SYS_CHROOT,
    capget,
    drop,
    effective,
    keep_only,
)
from tests.utils.uapi.nsfs import ns_get_userns
from tests.utils.uapi.nsfs import ns_inode as inode
from tests.utils.uapi.statmount import listmount, mnt_id_of


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U1")
@pytest.mark.upstream("open_tree_ns_caps.requires_cap_sys_admin")
def test_requires_cap_sys_admin(scratch: Path) -> None:
    """All capabilities but CAP_SYS_ADMIN in the caller's user namespace: EPERM."""
    leaf = tmpfs(scratch / "leaf")
    become_foreign()

    drop(CAP_SYS_ADMIN)

    fails(errno.EPERM, copy, leaf)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U1")
def test_cap_sys_admin_is_enough(scratch: Path) -> None:
    """CAP_SYS_ADMIN in the caller's user namespace, and no other capability, is enough."""
    leaf = tmpfs(scratch / "leaf")
    expected = predict_copy(leaf, recursive=False, foreign=True)
    become_foreign()

    keep_only(CAP_SYS_ADMIN)
    fd = copy(leaf)

    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U1", "U2")
@pytest.mark.upstream("open_tree_ns_userns.create_in_userns")
def test_create_in_userns(scratch: Path) -> None:
    """A caller that does not own its mount namespace may copy a directory with nothing below it;
    the new namespace belongs to the caller's user namespace."""
    leaf = tmpfs(scratch / "leaf", "leaf.txt")
    expected = predict_copy(leaf, recursive=False, foreign=True)
    owner_of_source = inode("/proc/self/ns/user")
    become_foreign()

    fd = copy(leaf)

    owner = inode(ns_get_userns(fd))
    assert owner == inode("/proc/self/ns/user") != owner_of_source
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U4", "N1")
@pytest.mark.upstream("open_tree_ns_userns.setns_in_userns")
def test_setns_in_userns(scratch: Path) -> None:
    """The foreign caller enters the namespace it made, and finds the copy as its root."""
    leaf = tmpfs(scratch / "leaf", "leaf.txt")
    directory = inode(str(leaf))
    become_foreign()

    fd = copy(leaf)
    top = listmount(ns_fd=fd)[0]
    enter(fd)

    assert (mnt_id_of("/"), inode("/")) == (top, directory)
    assert (mnt_id_of("."), inode(".")) == (top, directory)
    assert Path("/leaf.txt").read_text() == "leaf.txt"


def permitted_caps() -> list[int]:
    """Return the numbers of all capabilities that the caller may make effective."""
    permitted = capget().permitted
    return [cap for cap in range(permitted.bit_length()) if permitted >> cap & 1]


def may(call: Callable[[Path], int], path: Path, mask: int) -> bool:
    """Return whether *call* of *path* succeeds with the capabilities of *mask*; False is EPERM."""
    with effective(mask):
        end = outcome(call, path)
    assert end in ("success", "EPERM"), end.against("success or EPERM")
    if isinstance(end.result, int):
        os.close(end.result)
    return end == "success"


@pytest.mark.rule("U1")
def test_each_capability(caller: Caller, scratch: Path) -> None:
    """Of all capabilities CAP_SYS_ADMIN alone decides: with it and no other the call succeeds,
    with all others effective, and it merely permitted, the call is EPERM."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    caps = permitted_caps()
    everything = sum(1 << cap for cap in caps)

    alone = [cap for cap in caps if may(copy, leaf, 1 << cap)]
    needed = [cap for cap in caps if not may(copy, leaf, everything & ~(1 << cap))]

    assert (alone, needed) == ([CAP_SYS_ADMIN], [CAP_SYS_ADMIN])


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U1")
def test_no_capability_over_the_mount_namespace(scratch: Path) -> None:
    """Capabilities over the mount namespace's owner are not asked for: where OPEN_TREE_CLONE is
    EPERM for want of them, OPEN_TREE_NAMESPACE succeeds."""
    leaf = tmpfs(scratch / "leaf")
    everything = capget().permitted

    def both() -> tuple[bool, bool]:
        return may(clone, leaf, everything), may(copy, leaf, everything)

    assert both() == (True, True)
    become_foreign()
    assert both() == (False, True)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U1")
def test_capability_in_another_user_namespace(scratch: Path) -> None:
    """It is the user namespace one is in that counts: whoever made it, and would have every
    capability over it from above, is refused inside without one."""
    leaf = tmpfs(scratch / "leaf")

    def inside() -> str:
        enter_new_userns()
        with effective(0):
            return outcome(copy, leaf)

    assert in_child(inside) == "EPERM"


@pytest.mark.rule("U4")
def test_capabilities_for_entering(caller: Caller, scratch: Path) -> None:
    """The namespace one has made can be entered with CAP_SYS_ADMIN and CAP_SYS_CHROOT; without
    either of the two setns(2) is EPERM, whatever else one has, and moves nobody."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    everything = capget().permitted
    admin, chroot = 1 << CAP_SYS_ADMIN, 1 << CAP_SYS_CHROOT
    fd = copy(leaf)
    here = inode("/proc/self/ns/mnt"), mnt_id_of("/")

    for mask in (0, admin, chroot, everything & ~admin, everything & ~chroot):
        with effective(mask):
            fails(errno.EPERM, enter, fd)
    assert (inode("/proc/self/ns/mnt"), mnt_id_of("/")) == here

    with effective(admin | chroot):
        enter(fd)
    assert mnt_id_of("/") == listmount(ns_fd=fd)[0]


@pytest.mark.needs("user namespace")
@pytest.mark.rule("U4")
def test_power_over_the_owner_is_not_enough_to_enter(scratch: Path) -> None:
    """Whoever made the owner's user namespace has every capability over it from above, and needs
    CAP_SYS_ADMIN and CAP_SYS_CHROOT in its own user namespace all the same: EPERM."""
    leaf = tmpfs(scratch / "leaf")
    everything = capget().permitted
    admin, chroot = 1 << CAP_SYS_ADMIN, 1 << CAP_SYS_CHROOT

    def below() -> list[int]:
        enter_new_userns()
        return [copy(leaf)]

    (fd,) = fds_from_child(below)
    here = inode("/proc/self/ns/mnt"), mnt_id_of("/")
    found = {}
    for name, mask in (
        ("no capability", 0),
        ("CAP_SYS_ADMIN alone", admin),
        ("CAP_SYS_CHROOT alone", chroot),
        ("all but CAP_SYS_ADMIN", everything & ~admin),
        ("all but CAP_SYS_CHROOT", everything & ~chroot),
    ):
        with effective(mask):
            found[name] = outcome(enter, fd)

    assert found == dict.fromkeys(found, "EPERM")
    assert (inode("/proc/self/ns/mnt"), mnt_id_of("/")) == here
    with effective(admin | chroot):
        enter(fd)
    assert mnt_id_of("/") == listmount(ns_fd=fd)[0]
