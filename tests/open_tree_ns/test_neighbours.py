# SPDX-License-Identifier: GPL-2.0-only
"""The flag's neighbours: fsmount(2) with FSMOUNT_NAMESPACE, and empty mount namespaces. Where they
meet the flag they must agree with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import base_of, namespace_tree
from tests.utils.mounts.trees import created, fresh_tmpfs, tmpfs
from tests.utils.uapi.caps import CAP_SYS_ADMIN, drop
from tests.utils.uapi.constants import (
    AT_FDCWD,
    FSMOUNT_CLOEXEC,
    FSMOUNT_NAMESPACE,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_get_userns, ns_id, ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import (
    attach,
    fsmount,
    fsopen,
    mount_setattr,
    umount2,
    unshare,
)

MAKE = FSMOUNT_NAMESPACE | FSMOUNT_CLOEXEC


@pytest.mark.needs("FSMOUNT_NAMESPACE")
@pytest.mark.rule("Y8")
def test_fsmount_namespace_refusals() -> None:
    """Flags come first, then privilege, attributes, and the descriptor; a file system that was not
    created, or is in use, makes no namespace."""
    fs, used, file = created(), created(), os.open("/", os.O_RDONLY)
    fsmount(used, MAKE)
    before = mount_table()
    found = {
        "unknown flag": outcome(fsmount, -1, MAKE | 4),
        "unknown attribute": outcome(fsmount, -1, MAKE, 1 << 30),
        "no descriptor": outcome(fsmount, -1, MAKE),
        "another descriptor": outcome(fsmount, file, MAKE),
        "not created": outcome(fsmount, fsopen("tmpfs"), MAKE),
        "in use": outcome(fsmount, used, MAKE),
    }
    drop(CAP_SYS_ADMIN)
    found["unprivileged"] = outcome(fsmount, fs, MAKE)
    found["unprivileged, unknown flag"] = outcome(fsmount, fs, MAKE | 4)
    assert found == {
        "unknown flag": "EINVAL",
        "unknown attribute": "EINVAL",
        "no descriptor": "EBADF",
        "another descriptor": "EINVAL",
        "not created": "EINVAL",
        "in use": "EBUSY",
        "unprivileged": "EPERM",
        "unprivileged, unknown flag": "EINVAL",
    }
    assert mount_table() == before


@pytest.mark.needs("FSMOUNT_NAMESPACE")
@pytest.mark.rule("Y8", "K1", "K2", "K4")
@pytest.mark.usefixtures("unlocked")
def test_fsmount_namespace_locks(caller: Caller) -> None:
    """A namespace made by fsmount(2) belongs to its maker, too; its top has the attributes asked
    for, and is locked with them for a foreign caller, and free for an owner."""
    fs = created()
    caller.act()
    attr = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID
    fd = fsmount(fs, MAKE, attr)
    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    enter(fd)

    assert [(mount.fs_type, mount.mnt_attr) for mount in mount_table()] == [("tmpfs", attr)]
    lift = outcome(mount_setattr, AT_FDCWD, "/", attr_clr=MOUNT_ATTR_NOSUID)
    unmount = outcome(umount2, "/", MNT_DETACH)

    assert (lift, unmount) == (("EPERM", "EINVAL") if caller.foreign else ("success", "success"))


@pytest.mark.needs("FSMOUNT_NAMESPACE")
@pytest.mark.rule("Y8", "N10", "P13")
def test_flag_and_fsmount_namespace(scratch: Path) -> None:
    """Inside a namespace made by fsmount(2) the flag copies its mounts; from outside it cannot, and
    changes nothing on either side."""
    fd = fsmount(created(), MAKE)
    here = current_mnt_ns()
    enter(fd)
    tmpfs(Path("/child"), "child.txt")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    copied = copy("/child")
    enter(here)
    assert namespace_tree(copied).mount_points() == ["/"]
    assert ns_id(copied) > ns_id(fd)
    before = mount_table(), mount_table(ns_fd=fd)
    fails(errno.EINVAL, copy, "", dirfd=root)
    fails(errno.EINVAL, copy, "", dirfd=root, recursive=True)
    assert (mount_table(), mount_table(ns_fd=fd)) == before


@pytest.mark.needs("UNSHARE_EMPTY_MNTNS")
@pytest.mark.rule("P16", "P17", "K4")
def test_flag_in_an_empty_namespace(scratch: Path) -> None:
    """In a namespace unshared empty there is nullfs and nothing else, nothing is locked, and the
    flag makes namespaces of what was brought along: whatever locks the caller came from."""
    tree = fresh_tmpfs()
    unshare(UNSHARE_EMPTY_MNTNS)
    base = mnt_id_of("/")
    assert [(mount.mnt_id, mount.fs_type) for mount in mount_table()] == [(base, "nullfs")]

    fd = copy("", dirfd=tree)
    attach(tree, "/")
    beside = copy("", dirfd=tree)

    for made in (fd, beside):
        assert [mount.fs_type for mount in mount_table(ns_fd=made)] == ["tmpfs"]
        assert base_of(made).fs_type == "nullfs"
        enter(made)
        umount2("/", MNT_DETACH)
        assert mount_table() == []
