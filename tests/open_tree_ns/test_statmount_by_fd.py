# SPDX-License-Identifier: GPL-2.0-only
"""statmount(2) with STATMOUNT_BY_FD: what it says of mounts of the copy, whoever holds a descriptor
on them, and of mounts that are in no namespace."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter
from tests.open_tree_ns.trees import nested_tree
from tests.utils.expect import outcome
from tests.utils.mounts.settle import let_go
from tests.utils.mounts.trees import bind, fresh_tmpfs, propagation, tmpfs
from tests.utils.uapi.caps import keep_only
from tests.utils.uapi.constants import LSMT_ROOT, MNT_DETACH, MS_PRIVATE, MS_SHARED
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.statmount import mount_table, statmount, statmount_by_fd
from tests.utils.uapi.syscalls import umount2

pytestmark = [pytest.mark.rule("U10"), pytest.mark.needs("STATMOUNT_BY_FD")]


def opened(path: str | Path) -> int:
    """Return a descriptor on the mount at *path*."""
    return os.open(path, os.O_PATH)


@pytest.mark.upstream("statmount_test.statmount_by_fd")
def test_by_descriptor_as_by_id(caller: Caller, scratch: Path) -> None:
    """By a descriptor on it each mount of the copy is described as by its id, by those inside."""
    top = nested_tree(scratch)
    caller.act()
    enter(copy(top, recursive=True))
    by_id = {mount.mnt_point or "": mount for mount in mount_table()}

    by_fd = {path: statmount_by_fd(opened(path)) for path in by_id}

    assert list(by_fd) == ["/", "/a", "/a/inner", "/b"]
    assert by_fd == by_id


def test_descriptor_is_all_it_takes(caller: Caller, scratch: Path) -> None:
    """It takes no capability and no way to the mount: who holds the descriptor in another namespace
    reads the same, as seen from the root of the mount's own."""
    copied = copy_by(caller, nested_tree(scratch))
    by_id = copied.inside(lambda: {mount.mnt_point or "": mount for mount in mount_table()})
    held = {path: copied.opened_inside(partial(opened, path)) for path in by_id}
    keep_only()

    by_fd = {path: statmount_by_fd(fd) for path, fd in held.items()}

    assert by_fd == by_id


@pytest.mark.usefixtures("unlocked")
def test_base_by_descriptor() -> None:
    """The base, once one stands on it, is described by descriptor as by its id."""
    fd = copy("", dirfd=fresh_tmpfs())
    enter(fd)
    umount2("/", MNT_DETACH)
    enter(fd)

    base = statmount_by_fd(opened("/"))

    assert base == statmount(base.mnt_id)
    assert (base.fs_type, base.mnt_parent_id, base.mnt_ns_id) == ("nullfs", base.mnt_id, ns_id(fd))


@fixes.STAND_INS
@pytest.mark.upstream("statmount_test.statmount_by_fd_unmounted")
def test_unmounted_by_descriptor(caller: Caller, scratch: Path) -> None:
    """An unmounted mount is described as its own parent, without mount point and namespace, whether
    it was lazily unmounted or its namespace ended, in which until 7.3 locked mounts stayed
    connected; one of a peer group is private, and all else is as before."""
    top = tmpfs(scratch / "top")
    leaf = tmpfs(scratch / "leaf")
    tmpfs(top / "child")
    (top / "bind").mkdir()
    caller.act()
    other, fd = copy(leaf), copy(top, recursive=True)
    enter(fd)
    bind(propagation(Path("/child"), MS_SHARED), Path("/bind"))
    held = {path: opened(path) for path in ("/", "/child", "/bind")}
    before = {path: statmount_by_fd(fd) for path, fd in held.items()}

    def unmounted(path: str) -> dict[str, object]:
        mount = before[path]
        gone = {"mnt_point": None, "mnt_ns_id": 0}
        gone |= {"mnt_propagation": MS_PRIVATE, "mnt_peer_group": 0}
        parent = {"mnt_parent_id": mount.mnt_id, "mnt_parent_id_old": mount.mnt_id_old}
        return mount._asdict() | gone | parent

    umount2("/bind", MNT_DETACH)
    lazily = statmount_by_fd(held["/bind"])._asdict()
    enter(other)
    let_go(fd)
    ended = {path: statmount_by_fd(held[path])._asdict() for path in ("/", "/child")}

    assert lazily == unmounted("/bind")
    assert ended == {path: unmounted(path) for path in ended}


def test_refused_descriptors(scratch: Path) -> None:
    """A mount of the kernel's own, such as that of the namespace's handle, is EINVAL, and so is an
    id beside the descriptor; a closed descriptor is EBADF."""
    fd = copy(tmpfs(scratch / "leaf"))
    directory, pipe = opened(scratch), os.pipe()[0]
    closed = os.dup(directory)
    os.close(closed)

    got = {
        "handle": outcome(statmount_by_fd, fd),
        "pipe": outcome(statmount_by_fd, pipe),
        "mount id": outcome(statmount_by_fd, directory, mnt_id=LSMT_ROOT),
        "namespace id": outcome(statmount_by_fd, directory, ns_id=ns_id(fd)),
        "closed": outcome(statmount_by_fd, closed),
    }

    assert got == {
        "handle": "EINVAL",
        "pipe": "EINVAL",
        "mount id": "EINVAL",
        "namespace id": "EINVAL",
        "closed": "EBADF",
    }
