# SPDX-License-Identifier: GPL-2.0-only
"""What stands where a locked mount was, on a mount that was unmounted and is still held open: an
empty directory or an empty file of nullfs, which is nobody's (mnt_cover)."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import MNT_DETACH
from tests.utils.uapi.inotify import inotify_watch
from tests.utils.uapi.syscalls import mount, umount2

pytestmark = pytest.mark.needs("user namespace")


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
    os.close(fd)
    return held


@pytest.fixture(params=[unmounted, ended], ids=["lazily unmounted", "namespace ended"])
def held(request: pytest.FixtureRequest, scratch: Path) -> int:
    """A directory held open on a mount that is unmounted, whose locked mounts went with it."""
    directory: int = request.param(scratch)
    return directory


@pytest.mark.rule("K10")
@fixes.STAND_INS
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
        "flock": outcome(fcntl.flock, place, fcntl.LOCK_SH | fcntl.LOCK_NB),
        "mount": outcome(mount, "tmpfs", "directory", "tmpfs"),
        "the secret": outcome(os.stat, "directory/secret"),
    }

    assert got == {
        "mkdir": "ENOENT",
        "chmod": "EROFS",
        "inotify": "EINVAL",
        "flock": "ENOLCK",
        "mount": "ENOENT",
        "the secret": "ENOENT",
    }


@pytest.mark.rule("K10")
@fixes.STAND_INS_FOR_FILES
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
