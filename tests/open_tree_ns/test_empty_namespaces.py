# SPDX-License-Identifier: GPL-2.0-only
"""unshare(2) with UNSHARE_EMPTY_MNTNS: a namespace that holds nullfs, and nothing of the old one.

For the child of clone3(2) see test_empty_child.py.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter, place
from tests.utils.expect import fails, outcome
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs
from tests.utils.tasks.process import in_child, in_clone3, sharing_fs
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget, effective
from tests.utils.uapi.constants import (
    CLONE_EMPTY_MNTNS,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    CLONE_PARENT_SETTID,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.mountinfo import open_proc
from tests.utils.uapi.nsfs import (
    current_mnt_ns,
    exists,
    mnt_get_info,
    ns_get_userns,
    ns_id,
    ns_inode,
)
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import attach, setns, unshare

pytestmark = pytest.mark.needs("UNSHARE_EMPTY_MNTNS")


def own_namespace(proc: int, kind: str = "mnt") -> int:
    """Return a descriptor of the namespace one is in, by *proc*, a descriptor of a /proc."""
    return os.open(f"self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)


@pytest.mark.rule("E2")
@pytest.mark.upstream(
    "empty_mntns.basic",
    "empty_mntns.many_source_mounts",
    "empty_mntns.cwd_reset",
    "empty_mntns.mount_properties",
    "empty_mntns.root_is_own_parent",
    "empty_mntns.listmount_single_entry",
)
@pytest.mark.parametrize("chrooted", [False, True], ids=["root", "chroot"])
def test_what_is_left(caller: Caller, chrooted: bool, scratch: Path) -> None:
    """Whatever was mounted, and wherever the caller stood: the new namespace is one mount of
    nullfs, its own parent, on which root and working directory are. The old one stays as it is, and
    open directories of it are of use."""
    top = tmpfs(scratch / "top")
    for name in "abc":
        tmpfs(top / name, f"{name}.txt")
    proc, here = open_proc(), current_mnt_ns()
    # From outside, where what lies below the root shows as well.
    before = in_child(in_own_mount_ns(partial(mount_table, ns_fd=here)))
    directory = os.open(top / "c", os.O_RDONLY | os.O_DIRECTORY)
    caller.act()
    os.chdir(top / "a")
    if chrooted:
        os.chroot(top / "b")

    unshare(UNSHARE_EMPTY_MNTNS)

    (base,) = mount_table()
    assert (base.fs_type, base.mnt_root, base.mnt_point) == ("nullfs", "/", "/")
    assert base.mnt_parent_id == base.mnt_id
    assert listmount() == [base.mnt_id]
    assert {mnt_id for mnt_id, _ in place().values()} == {base.mnt_id}
    assert os.listdir("/") == os.listdir(".") == []
    assert os.listdir(directory) == ["c.txt"]
    assert mount_table(ns_fd=here) == before
    new = own_namespace(proc)
    assert ns_id(new) > ns_id(here)
    # As everywhere, the base does not count.
    assert mnt_get_info(new).nr_mounts == 0


@pytest.mark.rule("E2")
def test_who_shares_root_and_directory_stays(scratch: Path) -> None:
    """A process that shared root and working directory with the caller shares them no longer, and
    is where it was; the caller may then enter other namespaces."""
    top = tmpfs(scratch / "top")
    os.chdir(top)
    proc, before = open_proc(), (mnt_id_of("/"), mnt_id_of("."))
    with sharing_fs() as pid:
        unshare(UNSHARE_EMPTY_MNTNS)
        other = [os.open(f"{pid}/{name}", os.O_PATH, dir_fd=proc) for name in ("root", "cwd")]
        assert tuple(map(mnt_id_of, other)) == before
        assert [mount.fs_type for mount in mount_table()] == ["nullfs"]
        enter(copy("", dirfd=fresh_tmpfs()))


@pytest.mark.rule("E2", "E5")
@pytest.mark.upstream("empty_mntns.repeated_unshare")
def test_again_and_again(caller: Caller) -> None:
    """From an empty namespace another one can be unshared, which has an id of its own; the one
    before ends with its last holder."""
    proc = open_proc()
    caller.act()
    seen = []
    for _ in range(3):
        unshare(UNSHARE_EMPTY_MNTNS)
        attach(fresh_tmpfs(), "/")  # to be seen by from outside
        fd = own_namespace(proc)
        seen.append((ns_id(fd), mnt_id_of("/")))
        assert mnt_get_info(fd).nr_mounts == 1
        os.close(fd)
    ids, roots = zip(*seen, strict=True)
    assert list(ids) == sorted(set(ids))
    assert len(set(roots)) == 3
    assert gone(*ids[:-1])
    assert exists(ids[-1])


#: Kinds by the names of their files; the user namespace last, since it takes the others over.
KINDS = {
    "": 0,
    "mnt": int(CLONE_NEWNS),
    "cwd": int(CLONE_FS),
    "pid": int(CLONE_NEWPID),
    "uts": int(CLONE_NEWUTS),
    "user": int(CLONE_NEWUSER),
}


@pytest.mark.rule("E3", "E5")
@pytest.mark.needs("user namespace", "UTS namespace", "PID namespace")
@pytest.mark.upstream(
    "empty_mntns.with_clone_newuser",
    "empty_mntns.with_other_ns_flags",
    "empty_mntns_test.other_ns_unaffected",
)
def test_with_other_kinds() -> None:
    """It needs no CLONE_NEWNS and goes with all other kinds, which are unshared as well; the new
    mount namespace belongs to the new user namespace, where there is one."""
    proc = open_proc()

    def inodes() -> dict[str, int]:
        return {kind: os.fstat(own_namespace(proc, kind)).st_ino for kind in ("mnt", "uts", "user")}

    found = {}
    for kind, flags in KINDS.items():
        before = inodes()
        unshare(UNSHARE_EMPTY_MNTNS | flags)
        after = inodes()
        new = {name for name, inode in after.items() if inode != before[name]}
        owner = ns_inode(ns_get_userns(own_namespace(proc)))
        fs_types = [mount.fs_type for mount in mount_table()]
        found[kind] = fs_types, new, owner == ns_inode(own_namespace(proc, "user"))

    assert found == {kind: (["nullfs"], {"mnt", kind} & {*inodes()}, True) for kind in KINDS}


@pytest.mark.rule("E3")
@pytest.mark.upstream(
    "empty_mntns_test.clone_newns_full_copy", "clone3_empty_mntns_test.clone3_newns_full_copy"
)
def test_other_calls_do_not_take_the_bit(scratch: Path) -> None:
    """Where that bit means something else, which is CLONE_PARENT_SETTID of clone3(2), CLONE_NEWNS
    copies the whole tree, as it does alone; and setns(2) has neither bit: EINVAL."""
    tmpfs(scratch / "a")
    count = len(mount_table())
    here = current_mnt_ns()

    def look() -> int:
        return len(mount_table())

    found = {
        "clone3": in_clone3(CLONE_NEWNS, look),
        "CLONE_PARENT_SETTID": in_clone3(CLONE_NEWNS | CLONE_PARENT_SETTID, look),
    }
    assert found == dict.fromkeys(found, count)
    unshare(CLONE_NEWNS)
    assert len(mount_table()) == count
    for kinds in (UNSHARE_EMPTY_MNTNS, UNSHARE_EMPTY_MNTNS | CLONE_NEWNS):
        fails(errno.EINVAL, setns, here, kinds)
    assert len(mount_table()) == count


@pytest.mark.rule("E4")
@pytest.mark.upstream("empty_mntns.eperm_without_caps", "clone3_empty_mntns.eperm_without_caps")
def test_each_capability(caller: Caller) -> None:
    """Both calls take CAP_SYS_ADMIN in the caller's user namespace, and nothing else: EPERM without
    it. A foreign caller may make them."""
    caller.act()
    everything = capget().permitted
    admin = 1 << CAP_SYS_ADMIN

    def ends(mask: int) -> tuple[str, str]:
        with effective(mask):
            return (
                outcome(in_clone3, CLONE_EMPTY_MNTNS, partial(os.getpid)),
                outcome(unshare, UNSHARE_EMPTY_MNTNS),
            )

    found = [ends(mask) for mask in (everything & ~admin, admin)]

    assert found == [("EPERM", "EPERM"), ("success", "success")]
