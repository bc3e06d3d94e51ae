# SPDX-License-Identifier: GPL-2.0-only
"""The returned descriptor: what kind of file it is, what it tells, and what it can be used for."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.mounts.limits import descriptor_table_full
from tests.utils.mounts.trees import tmpfs, write
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_FS,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MS_BIND,
    OPEN_TREE_NAMESPACE,
    Clone,
    FsMagic,
)
from tests.utils.uapi.nsfs import (
    NS_GET_ID,
    NS_MNT_GET_NEXT,
    NS_MNT_GET_PREV,
    current_mnt_ns,
    mnt_get_info,
    mnt_get_neighbour,
    mnt_ns_ioctl,
    ns_get_nstype,
    ns_id,
    ns_inode,
)
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import mount, open_tree, setns, umount2, unshare


@pytest.mark.rule("R1")
def test_kind_of_file(caller: Caller, scratch: Path) -> None:
    """The handle is a file of nsfs like /proc/PID/ns/mnt: regular, 0444, open for reading only
    and not O_PATH, named mnt:[inode]; there is nothing to read in it."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    fd = copy(leaf)

    status = os.fstat(fd)
    assert status.st_mode == stat.S_IFREG | 0o444
    assert status.st_dev == os.stat("/proc/self/ns/mnt").st_dev
    assert status.st_ino != os.stat("/proc/self/ns/mnt").st_ino
    assert os.readlink(f"/proc/self/fd/{fd}") == f"mnt:[{status.st_ino}]"
    modes = os.O_ACCMODE | os.O_PATH
    assert fcntl.fcntl(fd, fcntl.F_GETFL) & modes == os.O_RDONLY
    fails(errno.EINVAL, os.read, fd, 1)


#: A high number for a descriptor: exec closes them in ascending order, so that this is the last.
LAST = 900


@contextmanager
def next_program() -> Iterator[int]:
    """Start a program in a child, with all descriptors that survive exec; give the child's PID.

    The program waits for input until the block ends; it need not have come that far.
    """
    done, running = os.pipe()
    last = os.dup2(running, LAST, inheritable=False)
    os.close(running)
    wait, never = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(wait, 0)
            os.execv(sys.executable, [sys.executable, "-I", "-S", "-"])
        finally:
            os._exit(1)
    try:
        os.close(last)
        assert os.read(done, 1) == b""
        yield pid
    finally:
        os.close(never)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.mark.rule("R2")
@pytest.mark.room(descriptors=LAST + 10)
def test_exec(scratch: Path) -> None:
    """A handle made without OPEN_TREE_CLOEXEC is open in the next program, one made with it is
    closed there, and stays open here."""
    leaf = tmpfs(scratch / "leaf")
    kept = open_tree(AT_FDCWD, leaf, OPEN_TREE_NAMESPACE)
    closed = copy(leaf)

    with next_program() as pid:
        found = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        assert ns_inode(f"/proc/{pid}/fd/{kept}") == ns_inode(kept)

    assert found & {kept, closed} == {kept}
    assert ns_inode(closed) != ns_inode(kept)


@pytest.mark.rule("R3")
@pytest.mark.upstream("statmount_test_ns.statmount_mnt_ns_id")
@pytest.mark.upstream("nsid_test.nsid_mntns_basic")
@pytest.mark.upstream("nsid.mntns_separate")
def test_ids(caller: Caller, scratch: Path) -> None:
    """Type and id: CLONE_NEWNS, and an id that all ways of asking agree on, larger than the
    caller's and than that of any namespace before, also when those are gone."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    ids = [ns_id(current_mnt_ns())]
    for _ in range(3):
        fd = copy(leaf)
        assert ns_get_nstype(fd) == CLONE_NEWNS
        ids.append(ns_id(fd))
        assert ns_id(fd, NS_GET_ID) == mnt_get_info(fd).mnt_ns_id == ids[-1]
        assert [mount.mnt_ns_id for mount in mount_table(ns_fd=fd)] == [ids[-1]]
        os.close(fd)
        fails(errno.ENOENT, copy, leaf / "missing")
    assert ids == sorted(set(ids))


@pytest.mark.rule("R4")
def test_number_of_mounts(caller: Caller, scratch: Path) -> None:
    """NS_MNT_GET_INFO counts what listmount(2) lists, and follows what is mounted and unmounted
    inside."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    caller.act()
    fd = copy(top, recursive=True)

    def counts() -> tuple[int, int, int]:
        info = mnt_get_info(fd)
        return info.size, info.nr_mounts, len(listmount(ns_fd=fd))

    assert counts() == (16, 2, 2)
    with NamespaceThread() as thread:
        thread.enter(fd)
        thread.run(lambda: mount("tmpfs", "/child", "tmpfs"))
        assert counts() == (16, 3, 3)
        thread.run(lambda: umount2("/child", MNT_DETACH))
        assert counts() == (16, 2, 2)


@pytest.mark.rule("R7")
def test_kinds_for_setns(caller: Caller, scratch: Path) -> None:
    """setns(2) takes the handle as CLONE_NEWNS or 0; any other kind, or another one besides, is
    EINVAL, and moves nobody."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    fd = copy(leaf)
    here = mnt_id_of("/")
    others = (CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWUTS, CLONE_FS, Clone(1))
    for kinds in (*others, *(CLONE_NEWNS | other for other in others)):
        fails(errno.EINVAL, setns, fd, kinds)
    assert mnt_id_of("/") == here

    with NamespaceThread() as thread:
        for kinds in (Clone(0), CLONE_NEWNS):
            thread.run(lambda kinds=kinds: setns(fd, kinds))  # type: ignore[misc]
            assert thread.run(lambda: mnt_id_of("/")) == listmount(ns_fd=fd)[0]
            thread.leave()


@pytest.mark.rule("R7")
def test_other_descriptors_for_setns(scratch: Path) -> None:
    """What open_tree(2) returns without OPEN_TREE_NAMESPACE, and a handle reopened with O_PATH,
    is EBADF for setns(2), and the directory opened to be read EINVAL; a handle reopened for
    reading is as good as the first."""
    leaf = tmpfs(scratch / "leaf")
    fd = copy(leaf)
    link = f"/proc/self/fd/{fd}"
    for other in (
        open_tree(AT_FDCWD, leaf, 0),
        clone(leaf),
        open_tree(AT_FDCWD, link, 0),
        os.open(link, os.O_PATH),
    ):
        fails(errno.EBADF, enter, other)
    fails(errno.EINVAL, enter, os.open(leaf, os.O_RDONLY))
    again = os.open(link, os.O_RDONLY)
    assert ns_inode(again) == ns_inode(fd)
    enter(again)
    assert mnt_id_of("/") == listmount(ns_fd=fd)[0]


@pytest.mark.rule("R9")
def test_bind_mount_of_the_handle(scratch: Path) -> None:
    """The handle can be bind-mounted where it was made; there it is nsfs and the same namespace.
    The namespace one is in, and any older one, is EINVAL: it could come to hold itself. On a
    directory none is mounted: ENOTDIR."""
    leaf = tmpfs(scratch / "leaf")
    target = write(tmpfs(scratch / "targets") / "target")

    def bind(fd: int, where: Path | str = target) -> None:
        mount(f"/proc/self/fd/{fd}", where, None, MS_BIND)

    before = mount_table()
    own = current_mnt_ns()
    with holding(enter_new_mount_ns) as other:
        newer = os.open(other.proc("ns/mnt"), os.O_RDONLY)
        fd = copy(leaf)
        for wanted in (fd, newer):
            bind(wanted)
            (bound,) = (mounted for mounted in mount_table() if mounted.mnt_point == str(target))
            assert (bound.fs_type, bound.sb_magic) == ("nsfs", FsMagic.NSFS_MAGIC)
            assert bound.mnt_root == f"mnt:[{os.fstat(wanted).st_ino}]"
            assert ns_inode(str(target)) == ns_inode(wanted)
            umount2(target)
        fails(errno.EINVAL, bind, own)
        fails(errno.ENOTDIR, bind, fd, leaf)
        unshare(CLONE_NEWNS)
        for older in (own, newer, fd, current_mnt_ns()):
            fails(errno.EINVAL, bind, older)
    enter(own)
    assert mount_table() == before


@pytest.mark.rule("R9")
def test_bind_mount_from_inside(scratch: Path) -> None:
    """Inside a new namespace its own handle, its maker's and that of one made before it are
    EINVAL to bind; one made after it is not, wherever it was made."""
    top = tmpfs(scratch / "top", "target")
    (top / "proc").mkdir()
    mount("/proc", top / "proc", None, MS_BIND)
    maker = current_mnt_ns()
    older, fd, newer = (copy(top, recursive=True) for _ in range(3))
    enter(fd)
    inside = copy("/")
    for wanted in (maker, older, fd):
        fails(errno.EINVAL, mount, f"/proc/self/fd/{wanted}", "/target", None, MS_BIND)
    for wanted in (newer, inside):
        mount(f"/proc/self/fd/{wanted}", "/target", None, MS_BIND)
        assert ns_inode("/target") == ns_inode(wanted)
        umount2("/target")


@pytest.mark.rule("R12")
def test_info_for_a_larger_struct(scratch: Path) -> None:
    """NS_MNT_GET_INFO fills as much of a larger struct as the kernel knows, says how much that was,
    and leaves the rest alone; a smaller one than the first is ENOTTY, and NULL is EINVAL."""
    fd = copy(tmpfs(scratch / "leaf"))
    known = mnt_ns_ioctl(fd, "NS_MNT_GET_INFO", 16)

    larger = mnt_ns_ioctl(fd, "NS_MNT_GET_INFO", 64)
    filled = int.from_bytes(larger[:4], sys.byteorder)
    refused = {
        "smaller": outcome(mnt_ns_ioctl, fd, "NS_MNT_GET_INFO", 8),
        "NULL": outcome(mnt_ns_ioctl, fd, "NS_MNT_GET_INFO", 16, null=True),
    }

    assert 16 <= filled < 64, "the size that the kernel knows"
    assert larger[4:16] == known[4:], "what is in the first 16 bytes"
    assert larger[filled:] == b"\xff" * (64 - filled), "written beyond the size that was told"
    assert refused == {"smaller": "ENOTTY", "NULL": "EINVAL"}


@pytest.mark.rule("R12")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.isolated(pid_namespace=False)
def test_neighbour_without_a_struct(scratch: Path) -> None:
    """NS_MNT_GET_NEXT and NS_MNT_GET_PREV want a struct to fill: with NULL they are EFAULT, and
    leave no descriptor behind."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(3)]
    before = os.listdir("/proc/self/fd")

    got = {
        name: outcome(mnt_ns_ioctl, fds[1], name, 16, null=True)
        for name in ("NS_MNT_GET_NEXT", "NS_MNT_GET_PREV")
    }

    assert got == {"NS_MNT_GET_NEXT": "EFAULT", "NS_MNT_GET_PREV": "EFAULT"}
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.rule("R5")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.isolated(pid_namespace=False)
def test_neighbour_with_a_full_descriptor_table(scratch: Path) -> None:
    """NS_MNT_GET_NEXT and NS_MNT_GET_PREV are EMFILE where there is no descriptor left for what
    they open."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(3)]
    with descriptor_table_full():
        got = {
            name: outcome(mnt_ns_ioctl, fds[1], name, 16)
            for name in ("NS_MNT_GET_NEXT", "NS_MNT_GET_PREV")
        }

    assert got == {"NS_MNT_GET_NEXT": "EMFILE", "NS_MNT_GET_PREV": "EMFILE"}


@pytest.mark.rule("R12")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.isolated(pid_namespace=False)
def test_namespace_of_another_type_is_no_mount_namespace() -> None:
    """What is asked of mount namespaces is EINVAL for a namespace of another type."""
    other = os.open("/proc/self/ns/user", os.O_RDONLY)

    got = {
        "NS_GET_MNTNS_ID": outcome(ns_id, other),
        "NS_MNT_GET_INFO": outcome(mnt_get_info, other),
        "NS_MNT_GET_NEXT": outcome(mnt_get_neighbour, other, NS_MNT_GET_NEXT),
        "NS_MNT_GET_PREV": outcome(mnt_get_neighbour, other, NS_MNT_GET_PREV),
    }

    assert got == dict.fromkeys(got, "EINVAL")
