# SPDX-License-Identifier: GPL-2.0-only
"""What stands where a locked mount was, on a mount that was unmounted and is still held open: an
empty directory or an empty file of nullfs, which is nobody's (mnt_cover)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.settle import let_go
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.tasks.process import deferred_call
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import MNT_DETACH
from tests.utils.uapi.inotify import inotify_watch
from tests.utils.uapi.syscalls import mount, umount2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY

pytestmark = pytest.mark.needs("user namespace")  # for the caller to whom mounts are locked


def covered_tree(scratch: Path) -> Path:
    """Make a tree with a directory and a file that mounts cover, each with a secret below."""
    top = tmpfs(scratch / "top", "directory/secret")
    write(top / "file", "secret")
    write(top / "visible", "visible")
    tmpfs(top / "directory", "cover")
    bind(top / "visible", top / "file")
    return top


def unmounted(scratch: Path) -> int:
    """Enter a foreign copy of a covered tree, bind it, unmount the bind lazily, and return a
    directory that was opened on it before."""
    top = covered_tree(scratch)
    (top / "bind").mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    bind(Path("/"), Path("/bind"), recursive=True)
    held = os.open("/bind", os.O_RDONLY | os.O_DIRECTORY)
    umount2("/bind", MNT_DETACH)
    return held


def ended(scratch: Path) -> int:
    """Enter a foreign copy of a covered tree, leave it again for another, so that it ends, and
    return a directory that was opened on it before."""
    top = covered_tree(scratch)
    elsewhere = tmpfs(scratch / "elsewhere")
    become_foreign()
    other = copy(elsewhere)
    fd = copy(top, recursive=True)
    enter(fd)
    held = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
    enter(other)
    let_go(fd)
    return held


@pytest.fixture(params=[unmounted, ended], ids=["lazily unmounted", "namespace ended"])
def held(request: pytest.FixtureRequest, scratch: Path) -> int:
    """A directory held open on a mount that is unmounted, whose locked mounts went with it."""
    directory: int = request.param(scratch)
    return directory


@pytest.mark.rule("K10")
@pytest.mark.needs("inotify", "file locks")
@fixes.STAND_INS
@pytest.mark.upstream("mount_cover.not_watchable")
@pytest.mark.upstream("mount_cover.not_lockable")
@pytest.mark.upstream("mount_cover.not_leasable")
@pytest.mark.upstream("mount_cover.not_mountable")
@pytest.mark.upstream("mount_cover.read_only")
def test_empty_directory_stands_in(held: int) -> None:
    """Where a locked mount was on a directory there is an empty one of nullfs, in which nothing can
    be made, and which cannot be watched, locked, changed or mounted on."""
    os.fchdir(held)
    place = os.open("directory", os.O_RDONLY | os.O_DIRECTORY)
    assert os.listdir(place) == []

    got = {
        "mkdir": outcome(os.mkdir, "x", dir_fd=place),
        "chmod": outcome(os.fchmod, place, 0o777),
        "inotify": outcome(inotify_watch, "directory"),
        "dnotify": outcome(fcntl.fcntl, place, fcntl.F_NOTIFY, fcntl.DN_CREATE),
        "flock": outcome(fcntl.flock, place, fcntl.LOCK_SH | fcntl.LOCK_NB),
        "lease": outcome(fcntl.fcntl, place, fcntl.F_SETLEASE, fcntl.F_RDLCK),
        "mount": outcome(mount, "tmpfs", "directory", "tmpfs"),
        "the secret": outcome(os.stat, "directory/secret"),
    }

    assert got == {
        "mkdir": "ENOENT",
        "chmod": "EROFS",
        "inotify": "EINVAL",
        "dnotify": "EINVAL",
        "flock": "ENOLCK",
        "lease": "EINVAL",
        "mount": "ENOENT",
        "the secret": "ENOENT",
    }


@pytest.mark.rule("K10")
@pytest.mark.needs("inotify", "file locks")
@fixes.STAND_INS_FOR_FILES
@pytest.mark.upstream("mount_cover.file_stand_in")
def test_empty_file_stands_in(held: int) -> None:
    """Where a locked mount was on a file, there is an empty one of nullfs, which stays empty
    whatever is written to it, and cannot be watched or locked."""
    os.fchdir(held)
    file = os.open("file", os.O_RDWR)
    assert os.pread(file, 10, 0) == b""

    written = os.write(file, b"lost")
    got = {
        "inotify": outcome(inotify_watch, "file"),
        "flock": outcome(fcntl.flock, file, fcntl.LOCK_SH | fcntl.LOCK_NB),
    }

    assert (written, os.pread(file, 10, 0), os.fstat(file).st_size) == (4, b"", 0)
    assert got == {"inotify": "EINVAL", "flock": "ENOLCK"}


@pytest.mark.rule("K10")
@fixes.STAND_INS
@pytest.mark.upstream("mount_cover.island")
@pytest.mark.upstream("mount_cover.held_child_detached")
def test_stand_in_and_cover_are_apart(scratch: Path) -> None:
    """The stand-in leads nowhere, and neither does the mount that lay there, if it is held open
    too: ".." of either is itself."""
    top = covered_tree(scratch)
    (top / "bind").mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    bind(Path("/"), Path("/bind"), recursive=True)
    held, cover = (os.open(path, _DIRECTORY) for path in ("/bind", "/bind/directory"))
    umount2("/bind", MNT_DETACH)
    stand_in = os.open("directory", _DIRECTORY, dir_fd=held)

    above = [os.open("..", _DIRECTORY, dir_fd=fd) for fd in (stand_in, cover)]

    assert [os.path.sameopenfile(*pair) for pair in zip((stand_in, cover), above, strict=True)] == [
        True,
        True,
    ]
    assert (os.listdir(stand_in), os.listdir(cover)) == ([], ["cover"])


@pytest.mark.rule("K10")
@fixes.STAND_INS
@pytest.mark.upstream("mount_cover.cover_goes_with_mountpoint")
@pytest.mark.upstream("mount_cover.shared_mountpoint")
def test_stand_in_goes_with_its_place(scratch: Path) -> None:
    """Two unmounted mounts of one file system have a stand-in each in the same place. One stays
    when the other is given up, and goes when the place is removed from outside; who has it open
    keeps it."""
    top = tmpfs(scratch / "top")
    for name in ("covered", "one", "two"):
        (top / name).mkdir()
    tmpfs(top / "covered", "cover")

    def apart(tree: int) -> bool:
        place = os.stat("covered", dir_fd=tree)
        return place.st_dev != os.fstat(tree).st_dev

    def remove() -> None:
        umount2(top / "covered")
        (top / "covered").rmdir()

    with deferred_call(remove) as remove_place:
        become_foreign()
        enter(copy(top, recursive=True))
        trees = []
        for name in ("/one", "/two"):
            bind(Path("/"), Path(name), recursive=True)
            trees.append(os.open(name, _DIRECTORY))
            umount2(name, MNT_DETACH)
        shown = [apart(fd) for fd in trees]
        os.close(trees.pop())
        shown.append(apart(trees[0]))
        left = os.open("covered", _DIRECTORY, dir_fd=trees[0])
        remove_place()
        removed = outcome(os.open, "covered", _DIRECTORY, dir_fd=trees[0])

    assert (shown, str(removed), os.listdir(left)) == ([True] * 3, "ENOENT", [])


@pytest.mark.rule("K10")
@pytest.mark.usefixtures("unlocked")
def test_stand_ins_of_free_mounts(scratch: Path) -> None:
    """Where a mount was that is not locked, what it covered is to be seen after a lazy umount and
    after the end of the namespace; after the end of a detached tree, and when the place is removed
    from outside, there is a stand-in as well (until 7.3 the mount itself)."""
    top, elsewhere = covered_tree(scratch), tmpfs(scratch / "elsewhere")
    for name in ("bind", "removed"):
        (top / name).mkdir()
    held = {}

    with deferred_call((top / "removed").rmdir) as remove_place:
        other, fd = copy(elsewhere), copy(top, recursive=True)
        enter(fd)
        for name in ("bind", "removed"):
            bind(Path("/"), Path("/") / name, recursive=True)
            held[name] = os.open(f"/{name}", _DIRECTORY)
        umount2("/bind", MNT_DETACH)
        remove_place()
        tree = clone("/", recursive=True)
        held["tree"] = os.open(".", _DIRECTORY, dir_fd=tree)
        os.close(tree)
        held["namespace"] = os.open("/", _DIRECTORY)
        enter(other)
        let_go(fd)

    found = {
        name: str(outcome(os.stat, "directory/secret", dir_fd=held[name])) for name in sorted(held)
    }

    assert found == {
        "bind": "success",
        "namespace": "success",
        "removed": "ENOENT",
        "tree": "ENOENT",
    }
