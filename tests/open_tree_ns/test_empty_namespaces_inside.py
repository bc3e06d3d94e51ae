# SPDX-License-Identifier: GPL-2.0-only
"""Inside an empty mount namespace, made by unshare(2) or for the child of clone3(2): its base, what
can be put there, what it counts against, and what it holds."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter, in_empty_namespaces
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree
from tests.utils.mounts.trees import created, fresh_tmpfs, tmpfs, write
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import enter_new_userns
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_NEWUSER,
    F_SET_RW_HINT,
    FSMOUNT_NAMESPACE,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.mountinfo import open_proc
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    attach,
    fsmount,
    mount,
    mount_setattr,
    umount2,
    unshare,
)

pytestmark = pytest.mark.needs("UNSHARE_EMPTY_MNTNS")


def stand_on_a_base(propagation: int) -> tuple[int, Mount]:
    """Stand in a namespace on its base, bare, of this propagation type. There is no /proc.

    Return the namespace and that base.
    """
    home = copy("", dirfd=fresh_tmpfs())
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    mount(None, "/", None, propagation)
    return home, statmount(mnt_id_of("/"))


#: Flags that make the namespace a new user namespace's, for the caller that owns it or not.
OWNERS = {Caller.OWNER: 0, Caller.FOREIGN: int(CLONE_NEWUSER)}


@pytest.mark.rule("E6", "E7")
@pytest.mark.usefixtures("unlocked")
def test_attributes_of_the_base(caller: Caller) -> None:
    """The new base has the attributes of the old one, which are locked in a new user namespace;
    what is mounted on it is free in any case."""
    stand_on_a_base(MS_PRIVATE)
    mount_setattr(AT_FDCWD, "/", attr_set=MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
    here = statmount(mnt_id_of("/")).mnt_attr

    def look() -> dict[str, object]:
        clear = partial(mount_setattr, AT_FDCWD, "/")
        found: dict[str, object] = {
            "attributes": statmount(mnt_id_of("/")).mnt_attr,
            "propagation": statmount(mnt_id_of("/")).mnt_propagation,
            "nosuid cleared": outcome(clear, attr_clr=MOUNT_ATTR_NOSUID),
            "nodev cleared": outcome(clear, attr_clr=MOUNT_ATTR_NODEV),
        }
        attach(fresh_tmpfs(), "/")
        os.chdir("/..")
        found["what is mounted"] = outcome(umount2, "/", MNT_DETACH)
        return found

    found = in_empty_namespaces(OWNERS[caller], look)

    clearing = "EPERM" if caller.foreign else "success"
    expected = {
        "attributes": here,
        "propagation": MS_PRIVATE,
        "nosuid cleared": clearing,
        "nodev cleared": clearing,
        "what is mounted": "success",
    }
    assert found == {"clone3": expected, "unshare": expected}


@pytest.mark.rule("E7")
@pytest.mark.usefixtures("unlocked")
def test_propagation_of_the_base(caller: Caller) -> None:
    """The new base is a peer of the old one, or in a new user namespace its slave, and so is the
    base of the next one: what is mounted inside reaches the old base from peers and from no other.
    """
    home, base = stand_on_a_base(MS_SHARED)

    def look() -> list[tuple[int, int, int]]:
        bases: list[tuple[int, int, int]] = []
        for _ in range(2):
            base = statmount(mnt_id_of("/"))
            bases.append((base.mnt_propagation, base.mnt_peer_group, base.mnt_master))
            attach(fresh_tmpfs(), "/")
            unshare(UNSHARE_EMPTY_MNTNS)
        return bases

    found = in_empty_namespaces(OWNERS[caller], look)

    group = base.mnt_peer_group
    kind = (MS_SLAVE, 0, group) if caller.foreign else (MS_SHARED, group, 0)
    assert found == {"clone3": [kind, kind], "unshare": [kind, kind]}
    assert mnt_get_info(home).nr_mounts == (0 if caller.foreign else 4)


@pytest.mark.rule("E7")
@pytest.mark.usefixtures("unlocked")
def test_what_arrives_on_the_base(caller: Caller) -> None:
    """What is mounted on a shared base of the old namespace arrives in the empty ones made there,
    and goes again with it."""
    proc = open_proc()
    stand_on_a_base(MS_SHARED)
    with holding(lambda: unshare(UNSHARE_EMPTY_MNTNS | OWNERS[caller])) as inside:
        fd = os.open(f"{inside.pid}/ns/mnt", os.O_RDONLY, dir_fd=proc)
        attach(fresh_tmpfs(), "/")
        arrived = [(mount.fs_type, mount.mnt_propagation) for mount in mount_table(ns_fd=fd)]
        os.chdir("/..")
        umount2(".", MNT_DETACH)
        left = mnt_get_info(fd).nr_mounts
    assert arrived == [("tmpfs", MS_SLAVE if caller.foreign else MS_SHARED)]
    assert left == 0


@pytest.mark.rule("E11", "M1")
@pytest.mark.needs("user namespace", "FSMOUNT_NAMESPACE", "proc in a user namespace")
def test_no_proc_comes_back() -> None:
    """A user namespace's empty namespace has no proc that would make another one admissible: one
    that was made elsewhere can neither be mounted nor made a namespace, EPERM; a tmpfs can."""
    procs = [created("proc") for _ in range(3)]
    fsmount(procs[2])
    enter_new_userns()
    unshare(UNSHARE_EMPTY_MNTNS)
    found = {
        "mount": outcome(fsmount, procs[0]),
        "namespace": outcome(fsmount, procs[1], FSMOUNT_NAMESPACE),
        # Which would be EBUSY.
        "in use": outcome(fsmount, procs[2], FSMOUNT_NAMESPACE),
        "tmpfs": outcome(fsmount, created()),
    }
    assert found == {**dict.fromkeys(found, "EPERM"), "tmpfs": "success"}


@pytest.mark.rule("E12")
@pytest.mark.upstream("empty_mntns.overmount_tmpfs", "clone3_empty_mntns.child_overmount_tmpfs")
def test_root_from_nothing() -> None:
    """A file system attached to "/" is there, on top, while "/" leads to nullfs still, which takes
    no file; stepping onto it makes it the root, where files are made."""

    def build() -> dict[str, object]:
        base = mnt_id_of("/")
        found: dict[str, object] = {"nullfs": outcome(write, Path("/file"))}
        tree = fresh_tmpfs()
        attach(tree, "/")
        found["attached"] = [mount.fs_type for mount in mount_table()], mnt_id_of("/") == base
        os.fchdir(tree)
        os.chroot(".")
        write(Path("/file"))
        found["root"] = mnt_id_of("/") == mnt_id_of(tree), os.listdir("/")
        return found

    built = {
        "nullfs": "ENOENT",
        "attached": (["nullfs", "tmpfs"], True),
        "root": (True, ["file"]),
    }
    assert in_empty_namespaces(0, build) == {"clone3": built, "unshare": built}


@pytest.mark.rule("E12", "C6")
@pytest.mark.upstream("overmount_chroot_test.overmount_chroot")
def test_root_on_a_stack(caller: Caller) -> None:
    """Of mounts stacked on one place chroot(2) goes to the topmost, and shows the files of that one
    alone; a copy of that root is a copy of the topmost."""
    caller.act()
    unshare(UNSHARE_EMPTY_MNTNS)
    root = fresh_tmpfs()
    attach(root, "/")
    os.fchdir(root)
    os.chroot(".")
    os.mkdir("/new")
    layers = []
    for number in range(5):
        tmpfs(Path("/new"), f"layer-{number}")
        layers.append(mnt_id_of("/new"))

    os.chroot("/new")
    os.chdir("/")

    assert len(set(layers)) == 5
    assert mnt_id_of("/") == layers[-1]
    assert os.listdir("/") == ["layer-4"]
    enter(copy("/"))
    assert os.listdir("/") == ["layer-4"]
    assert namespace_tree().mount_points() == ["/"]


@pytest.mark.rule("Y9")
@pytest.mark.upstream("rw_hint_test.empty_mntns_root")
@fixes.NULLFS_RW_HINT
def test_root_takes_no_write_hint() -> None:
    """The root of an empty namespace is the machine's one inode of nullfs: F_SET_RW_HINT is
    EPERM."""
    unshare(UNSHARE_EMPTY_MNTNS)
    fd = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.EPERM, fcntl.fcntl, fd, F_SET_RW_HINT, struct.pack("=Q", 2))
