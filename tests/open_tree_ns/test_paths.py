# SPDX-License-Identifier: GPL-2.0-only
"""The path argument: what can be named, what it may lead to, and with which errno it ends."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import NAMESPACE, clone, copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, CAP_SYS_CHROOT, keep_only
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CLONE_NEWNS,
    FSCONFIG_CMD_CREATE,
    MNT_DETACH,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import (
    attach,
    fsconfig,
    fsmount,
    fsopen,
    open_tree,
    umount2,
    unshare,
)

P = ParamSpec("P")
RECURSION = pytest.mark.parametrize("recursive", [False, True], ids=["single", "recursive"])


def refuse(number: int, call: Callable[P, int], *args: P.args, **kwargs: P.kwargs) -> None:
    """Make *call*, which must fail with this errno and leave the caller's mounts and descriptors
    alone."""
    __tracebackhide__ = True
    before = mount_table(), os.listdir("/proc/self/fd")
    fails(number, call, *args, **kwargs)
    assert (mount_table(), os.listdir("/proc/self/fd")) == before


@pytest.mark.rule("P1")
@pytest.mark.parametrize("address", [None, 1, 1 << 12], ids=["NULL", "1", "0x1000"])
def test_bad_pointer(address: int | None) -> None:
    """A path that is not in the caller's memory is EFAULT."""
    refuse(errno.EFAULT, copy, address)


@pytest.mark.rule("P2")
def test_empty_path() -> None:
    """An empty path without AT_EMPTY_PATH is ENOENT."""
    refuse(errno.ENOENT, open_tree, AT_FDCWD, "", NAMESPACE)


@pytest.mark.rule("P3")
@pytest.mark.parametrize("path", ["x", ""], ids=["relative", "empty"])
def test_bad_dirfd(path: str) -> None:
    """A descriptor that is not open is EBADF where the path needs it."""
    refuse(errno.EBADF, copy, path, dirfd=1 << 20)


@pytest.fixture
def shelf(scratch: Path) -> Path:
    """Make a tmpfs with a file, a directory, and links that lead nowhere."""
    top = tmpfs(scratch / "shelf", "file")
    (top / "directory").mkdir()
    (top / "dangling").symlink_to("missing")
    (top / "loop").symlink_to("loop")
    return top


@pytest.mark.rule("P4", "P5", "P6", "P7")
@pytest.mark.parametrize(
    ("path", "number"),
    [
        pytest.param("missing", errno.ENOENT, id="missing"),
        pytest.param("missing/x", errno.ENOENT, id="below_missing"),
        pytest.param("dangling", errno.ENOENT, id="dangling_link"),
        pytest.param("file/", errno.ENOTDIR, id="file_slash"),
        pytest.param("file/x", errno.ENOTDIR, id="below_file"),
        pytest.param("loop", errno.ELOOP, id="link_loop"),
        pytest.param("x" * 256, errno.ENAMETOOLONG, id="long_component"),
        pytest.param("./" * 2048, errno.ENAMETOOLONG, id="long_path"),
    ],
)
def test_walk_errors(path: str, number: int, shelf: Path) -> None:
    """A path that cannot be walked ends with the errno of the walk."""
    dirfd = os.open(shelf, os.O_PATH)
    refuse(number, copy, path, dirfd=dirfd)


@pytest.mark.rule("P5")
def test_dirfd_is_a_file(shelf: Path) -> None:
    """A path relative to a regular file is ENOTDIR."""
    refuse(errno.ENOTDIR, copy, "x", dirfd=os.open(shelf / "file", os.O_RDONLY))


@pytest.mark.rule("P8")
def test_parent_without_search_permission(scratch: Path) -> None:
    """Search permission on every parent is needed: EACCES, with CAP_SYS_ADMIN or without."""
    top = tmpfs(scratch / "top")
    (top / "closed" / "inner").mkdir(parents=True)
    (top / "closed").chmod(0)
    keep_only(CAP_SYS_ADMIN)
    refuse(errno.EACCES, copy, top / "closed/inner")


@pytest.mark.rule("P8")
def test_no_permission_on_the_directory_itself(scratch: Path) -> None:
    """The named directory itself may forbid everything: it is copied, not read."""
    top = tmpfs(scratch / "top")
    (top / "closed").mkdir()
    (top / "closed").chmod(0)
    expected = predict_copy(top / "closed", recursive=False)
    keep_only(CAP_SYS_ADMIN, CAP_SYS_CHROOT)
    fd = copy(top / "closed")
    assert namespace_tree(fd).lines() == expected.lines()


def _fifo(top: Path) -> int:
    os.mkfifo(top / "fifo")
    return os.open(top / "fifo", os.O_PATH)


def _socket(top: Path) -> int:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(top / "socket"))
    listener.close()
    return os.open(top / "socket", os.O_PATH)


def _connected_socket(top: Path) -> int:
    # Both stay open, and so connected; the end of the case closes them.
    one, _ = [end.detach() for end in socket.socketpair()]
    return one


def _mounted_file(top: Path) -> int:
    return os.open(bind(write(top / "source"), top / "target"), os.O_PATH)


def _symlink(top: Path) -> int:
    (top / "link").symlink_to("/")
    return os.open(top / "link", os.O_PATH | os.O_NOFOLLOW)


#: Kind of object -> a descriptor of one.
NO_DIRECTORY: dict[str, Callable[[Path], int]] = {
    "regular_file": lambda top: os.open(write(top / "file"), os.O_PATH),
    "open_file": lambda top: os.open(write(top / "file"), os.O_RDONLY),
    "mounted_file": _mounted_file,
    "symlink": _symlink,
    "fifo": _fifo,
    "socket": _socket,
    "device": lambda top: os.open("/dev/null", os.O_PATH),
    "mount_namespace": lambda top: os.open("/proc/self/ns/mnt", os.O_RDONLY),
    "user_namespace": lambda top: os.open("/proc/self/ns/user", os.O_RDONLY),
    "pidfd": lambda top: os.pidfd_open(os.getpid()),
    "pipe": lambda top: os.pipe()[0],
    "memfd": lambda top: os.memfd_create("memfd"),
    "connected_socket": _connected_socket,
}


@fixes.DIRECTORIES_ONLY
@pytest.mark.rule("P9")
@RECURSION
@pytest.mark.parametrize("kind", NO_DIRECTORY)
def test_no_directory_by_descriptor(kind: str, recursive: bool, scratch: Path) -> None:
    """A root directory that is no directory is ENOTDIR, whatever else it is."""
    fd = NO_DIRECTORY[kind](tmpfs(scratch / "top"))
    refuse(errno.ENOTDIR, copy, "", dirfd=fd, recursive=recursive)


@fixes.DIRECTORIES_ONLY
@pytest.mark.rule("P9")
@pytest.mark.parametrize("name", ["file", "fifo", "mounted"])
def test_no_directory_by_path(name: str, scratch: Path) -> None:
    """The same by path, also when links are not followed."""
    top = tmpfs(scratch / "top", "file")
    os.mkfifo(top / "fifo")
    bind(top / "file", top / "mounted")
    refuse(errno.ENOTDIR, copy, top / name)
    flags = NAMESPACE | AT_SYMLINK_NOFOLLOW
    refuse(errno.ENOTDIR, open_tree, AT_FDCWD, top / name, flags)


@pytest.mark.rule("P11")
def test_unlinked_directory(scratch: Path) -> None:
    """A directory that was removed while open can be copied; its root says so."""
    top = tmpfs(scratch / "top")
    (top / "gone").mkdir()
    dirfd = os.open(top / "gone", os.O_PATH)
    (top / "gone").rmdir()
    fd = copy("", dirfd=dirfd)
    copied = namespace_tree(fd)
    assert (copied.mnt_root, copied.mnt_point, copied.children) == ("/gone//deleted", "/", ())


@pytest.mark.rule("P12")
@RECURSION
def test_lazily_unmounted_source(recursive: bool, scratch: Path) -> None:
    """A directory whose mount was detached belongs to no namespace any more: EINVAL."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    dirfd = os.open(top, os.O_PATH)
    umount2(top, MNT_DETACH)
    refuse(errno.EINVAL, copy, "", dirfd=dirfd, recursive=recursive)


@pytest.mark.rule("P13")
@RECURSION
def test_directory_of_another_namespace(recursive: bool, scratch: Path) -> None:
    """A directory of another mount namespace cannot be copied from here: EINVAL."""
    tmpfs(scratch / "top")
    with holding(enter_new_mount_ns) as other:
        refuse(errno.EINVAL, copy, other.proc(f"root{scratch}/top"), recursive=recursive)
        dirfd = os.open(other.proc("root"), os.O_PATH)
        refuse(errno.EINVAL, copy, "", dirfd=dirfd, recursive=recursive)


@pytest.mark.rule("P14")
@RECURSION
@pytest.mark.parametrize("part", [".", "directory", "child"], ids=["top", "directory", "child"])
def test_detached_tree(part: str, recursive: bool, scratch: Path) -> None:
    """A detached tree made in this namespace is a source: its top, a directory in it, a mount on
    it. The copy is one: it outlives the tree."""
    top = tmpfs(scratch / "top", "directory/below/file.txt")
    tmpfs(top / "directory" / "below")
    tmpfs(top / "child")
    expected = predict_copy(top / part, recursive=recursive)
    tree = clone(top, recursive=True)

    fd = copy(part, dirfd=tree, recursive=recursive)
    assert namespace_tree(fd).lines() == expected.lines()
    source = os.open(".", os.O_RDONLY, dir_fd=tree)
    assert sorted(os.listdir(source)) == sorted(os.listdir(top))
    os.close(source)
    os.close(tree)
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("P14", "P15")
def test_clone_of_a_clone(scratch: Path) -> None:
    """A clone of a detached tree is a source where that one was made, and no other."""
    top = tmpfs(scratch / "top", "file")
    tmpfs(top / "child")
    expected = predict_copy(top, recursive=True)
    tree = clone(top, recursive=True)
    again = clone("", dirfd=tree, recursive=True)
    os.close(tree)

    fd = copy("", dirfd=again, recursive=True)
    unshare(CLONE_NEWNS)

    assert namespace_tree(fd).lines() == expected.lines()
    refuse(errno.EINVAL, copy, "", dirfd=again)


@pytest.mark.rule("P15")
@RECURSION
def test_detached_tree_of_another_namespace(recursive: bool, scratch: Path) -> None:
    """A detached tree cloned in another mount namespace is EINVAL, though it can be attached."""
    top = tmpfs(scratch / "top", "file.txt")
    tree = clone(top)
    unshare(CLONE_NEWNS)
    refuse(errno.EINVAL, copy, "", dirfd=tree, recursive=recursive)
    (top / "here").mkdir()
    attach(tree, top / "here")
    assert (top / "here" / "file.txt").exists()


@pytest.mark.rule("P16")
@RECURSION
def test_fresh_file_system_of_another_namespace(recursive: bool) -> None:
    """A mount made by fsmount(2) has no namespace of origin: it can be copied from any."""
    fs = fsopen("tmpfs")
    fsconfig(fs, FSCONFIG_CMD_CREATE)
    fresh = fsmount(fs)
    directory = ns_inode(fresh)
    unshare(CLONE_NEWNS)
    fd = copy("", dirfd=fresh, recursive=recursive)
    copied = namespace_tree(fd)
    assert (copied.fs_type, copied.mnt_root, copied.mnt_point) == ("tmpfs", "/", "/")
    enter(fd)
    assert ns_inode("/") == directory


@pytest.mark.rule("P17")
@pytest.mark.needs("UNSHARE_EMPTY_MNTNS")
@RECURSION
def test_nullfs_as_source(recursive: bool) -> None:
    """The nullfs root of an empty namespace can be copied: nullfs on nullfs."""
    unshare(UNSHARE_EMPTY_MNTNS)
    fd = copy("/", recursive=recursive)
    copied = namespace_tree(fd)
    assert (copied.fs_type, copied.mnt_point, copied.children) == ("nullfs", "/", ())
    assert base_of(fd).fs_type == "nullfs"


@pytest.mark.rule("P18")
@RECURSION
def test_chrooted_caller(recursive: bool, scratch: Path) -> None:
    """A chrooted caller may make the call; "/" is its root, here a directory inside a mount."""
    top = tmpfs(scratch / "top", "jail/inside.txt", "outside.txt")
    tmpfs(top / "jail" / "below")
    expected = predict_copy(top / "jail", recursive=recursive)
    directory = ns_inode(str(top / "jail"))
    os.chroot(top / "jail")
    os.chdir("/")
    fd = copy("/", recursive=recursive)
    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)
    assert ns_inode("/") == directory
