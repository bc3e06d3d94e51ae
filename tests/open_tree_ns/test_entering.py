# SPDX-License-Identifier: GPL-2.0-only
"""Entering the new namespace: where one stands then, and who may not."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter, enter_top, place
from tests.open_tree_ns.trees import small_tree
from tests.utils.expect import fails, outcome
from tests.utils.mounts.settle import settled
from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.namespace_thread import PIDFD_THREAD
from tests.utils.tasks.process import ended, holding, sharing_fs
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.constants import (
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUTS,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_id, ns_inode
from tests.utils.uapi.statmount import listmount, mnt_id_of
from tests.utils.uapi.syscalls import FD_FAILFS_ROOT, fchroot, setns, unshare


@pytest.mark.rule("N1", "C3")
def test_entering_moves_root_and_directory(caller: Caller, scratch: Path) -> None:
    """After setns(2) root and working directory are the top of the copy, and ".." of either stays
    there, wherever the caller stood before."""
    top = small_tree(scratch)
    tmpfs(top / "dir" / "deep")
    os.chdir(top / "dir" / "deep")
    directory = ns_inode(str(top / "dir"))
    caller.act()
    fd = copy(top / "dir", recursive=True)
    copied = listmount(ns_fd=fd)[0]

    enter(fd)

    assert place() == dict.fromkeys(["/", ".", "..", "/.."], (copied, directory))
    assert os.getcwd() == "/"
    assert sorted(os.listdir("/")) == ["deep", "file.txt"]


@pytest.mark.rule("N1")
def test_entering_leaves_a_chroot(scratch: Path) -> None:
    """A chrooted caller that enters is out of its chroot: its root is the top of the copy."""
    top = small_tree(scratch)
    fd = copy(top, recursive=True)
    os.chroot(top / "dir")
    os.chdir("/")
    top_id = enter_top(fd)
    assert {mnt for mnt, _ in place().values()} == {top_id}
    assert Path("/child/child.txt").read_text() == "child.txt"


@pytest.mark.rule("N1")
@pytest.mark.needs("fchroot")
@pytest.mark.upstream("failfs_test.fchroot_sentinel_setns_escape")
def test_entering_leaves_failfs(caller: Caller, scratch: Path) -> None:
    """A task without a root, in failfs where every path is ENOTSUP (fchroot(2), 7.3), gets one
    by entering: it stands on the top of the copy."""
    top = small_tree(scratch)
    caller.act()
    fd = copy(top, recursive=True)
    fchroot(FD_FAILFS_ROOT)
    fails(errno.ENOTSUP, os.stat, "/")

    assert str(outcome(copy, "/")) == "ENOTSUP"
    enter_top(fd)
    assert Path("/child/child.txt").read_text() == "child.txt"


@pytest.mark.rule("N1")
def test_old_directories_stay_valid(caller: Caller, scratch: Path) -> None:
    """Directories opened before entering are still those of the old namespace, as long as that
    lives: files are found and made below them, ".." leads up there, and fchdir(2) goes back."""
    top = small_tree(scratch)
    outside = os.open(top / "dir", os.O_RDONLY | os.O_DIRECTORY)
    above, mnt_id = ns_inode(str(scratch)), mnt_id_of(outside)
    _stay = current_mnt_ns()  # without it the old namespace would end when the caller leaves
    caller.act()
    enter_top(copy(top, recursive=True))

    os.close(os.open("new.txt", os.O_CREAT | os.O_WRONLY, dir_fd=outside))

    assert sorted(os.listdir(outside)) == ["file.txt", "new.txt"] == sorted(os.listdir("/dir"))
    assert ns_inode_at("../..", outside) == above
    os.fchdir(outside)
    assert (mnt_id_of("."), ns_inode("../..")) == (mnt_id, above)
    assert mnt_id not in listmount()


def ns_inode_at(path: str, dirfd: int) -> tuple[int, int]:
    """Return device and inode number of *path*, relative to *dirfd*."""
    status = os.stat(path, dir_fd=dirfd)
    return status.st_dev, status.st_ino


@pytest.mark.rule("N1", "T2")
def test_old_directories_outlive_their_namespace(caller: Caller, scratch: Path) -> None:
    """When the last task leaves the old namespace, a directory opened there can still be used, but
    it stands alone: ".." does not leave its mount any more, and it cannot be copied."""
    enter_new_mount_ns()
    top = small_tree(scratch)
    outside = os.open(top / "dir", os.O_RDONLY | os.O_DIRECTORY)
    above = ns_inode(str(top))
    caller.act()

    enter_top(copy(top, recursive=True))

    os.close(os.open("new.txt", os.O_CREAT | os.O_WRONLY, dir_fd=outside))
    assert sorted(os.listdir("/dir")) == ["file.txt", "new.txt"]
    alone = [above] * 3
    ups = ["/".join([".."] * up) for up in (1, 2, 3)]
    assert settled(lambda: [ns_inode_at(up, outside) for up in ups], alone) == alone
    assert outcome(copy, "", dirfd=outside) == "EINVAL"


@pytest.mark.rule("N1", "C2")
def test_host_paths_are_gone(caller: Caller, scratch: Path) -> None:
    """No plain path leads to what was not copied: not the directory the caller knew it by, not
    the machine's own, not with any number of ".."."""
    top = small_tree(scratch)
    tmpfs(scratch / "secret", "secret.txt")
    caller.act()
    enter_top(copy(top, recursive=True))
    paths = [str(scratch), "/proc/self", "/etc", "/../../.." + str(scratch), "../../secret"]
    assert {path: outcome(os.stat, path) for path in paths} == dict.fromkeys(paths, "ENOENT")
    assert sorted(os.listdir("/")) == ["child", "dir", "top.txt"]


@pytest.mark.rule("N2")
def test_thread_refuses_entry(scratch: Path) -> None:
    """A process with a second thread shares its root and directory: EINVAL, nothing moves. With an
    fs_struct of its own the thread that asks may enter, alone."""
    fd = copy(small_tree(scratch), recursive=True)
    before = place()
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        fails(errno.EINVAL, enter, fd)
        assert place() == before
        unshare(CLONE_FS)
        top = enter_top(fd)
    finally:
        done.set()
        other.join()
    assert {mnt for mnt, _ in place().values()} == {top}


@pytest.mark.rule("N2")
def test_process_with_the_same_root_refuses_entry(scratch: Path) -> None:
    """A process made with CLONE_FS shares root and directory as a thread does: EINVAL while it
    lives."""
    fd = copy(small_tree(scratch), recursive=True)
    before = place()
    with sharing_fs():
        fails(errno.EINVAL, enter, fd)
        assert place() == before
    top = enter_top(fd)
    assert {mnt for mnt, _ in place().values()} == {top}


@pytest.mark.rule("N2")
def test_thread_that_ended_does_not_matter(scratch: Path) -> None:
    """Once the other thread is gone, nothing is shared, and entering works."""
    fd = copy(small_tree(scratch), recursive=True)
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    assert other.native_id is not None
    task = os.pidfd_open(other.native_id, PIDFD_THREAD)

    done.set()
    other.join()
    # join() waits for the thread's end in Python, not in the kernel.
    assert ended(task, 20), "the other thread does not end"

    top = enter_top(fd)
    assert {mnt for mnt, _ in place().values()} == {top}


@pytest.mark.rule("N2")
@pytest.mark.needs("UTS namespace")
@fixes.SHARED_FS_STRUCT
def test_thread_refuses_entry_by_pidfd(scratch: Path) -> None:
    """By way of a pidfd, with another namespace along, a shared fs_struct is EINVAL as well."""
    top = small_tree(scratch)

    def live_inside() -> None:
        unshare(CLONE_NEWUTS)
        enter_top(copy(top, recursive=True))

    with holding(live_inside) as inside:
        pidfd = os.pidfd_open(inside.pid)
        before = place(), ns_id(current_mnt_ns()), ns_inode("/proc/self/ns/uts")
        done = threading.Event()
        other = threading.Thread(target=done.wait)
        other.start()
        try:
            for kinds in (CLONE_NEWNS, CLONE_NEWNS | CLONE_NEWUTS):
                fails(errno.EINVAL, setns, pidfd, kinds)
                assert (place(), ns_id(current_mnt_ns()), ns_inode("/proc/self/ns/uts")) == before
        finally:
            done.set()
            other.join()


@pytest.mark.rule("N2", "N1")
@pytest.mark.needs("UTS namespace")
@pytest.mark.upstream("regression_pidfd_setns_test.simple_pidfd_setns")
@pytest.mark.upstream("regression_pidfd_setns_test.simple_pidfd_setns_clone")
def test_entry_by_pidfd(scratch: Path) -> None:
    """With nothing shared a pidfd leads into the namespace its process lives in, together with
    that process's other namespaces: to the top, not to where that process is."""
    top = small_tree(scratch)

    def live_inside() -> tuple[int, int]:
        unshare(CLONE_NEWUTS)
        enter_top(copy(top, recursive=True))
        os.chroot("/dir")
        os.chdir("/")
        return 0, 0

    with holding(live_inside) as inside:
        fd = os.open(inside.proc("ns/mnt"), os.O_RDONLY)
        copied = listmount(ns_fd=fd)[0]
        setns(os.pidfd_open(inside.pid), CLONE_NEWNS | CLONE_NEWUTS)
        assert {mnt for mnt, _ in place().values()} == {copied}
        assert Path("/top.txt").read_text() == "top.txt"
