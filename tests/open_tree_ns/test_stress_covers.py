# SPDX-License-Identifier: GPL-2.0-only
"""Covers that are taken away while somebody looks: at no moment is there to be seen what they
cover, and no mount is lost. See test_stress_races.py on what it takes for the two to meet."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, copy_by, enter, mount_points
from tests.utils.expect import outcome
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.search.plugin import Search
from tests.utils.tasks.loops import background_loops
from tests.utils.tasks.process import in_child, shared_numbers, started
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import AT_FDCWD, MNT_DETACH
from tests.utils.uapi.file_handles import FileHandle, name_to_handle_at, open_by_handle_at
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.syscalls import mount, umount2

pytestmark = [pytest.mark.stress, pytest.mark.needs("user namespace")]

#: Covered places that are removed in a round, and rounds between two looks at the clock.
PLACES = 40
ROUND = 200


def seen(place: str) -> str:
    """Return what *place* shows: the text of a file, or the names in a directory."""
    fd = os.open(place, os.O_RDONLY)
    try:
        return os.read(fd, 99).decode() if int(place[1:]) % 2 else str(os.listdir(fd))
    finally:
        os.close(fd)


@pytest.mark.rule("K15")
@fixes.UNHASHED_FIRST
@fixes.REVEALED_IN_REFWALK
def test_removal_uncovers_nothing(search: Search, scratch: Path) -> None:
    """While files and directories that locked mounts cover inside are removed from outside, each
    shows the cover until it is gone."""
    top = tmpfs(scratch / "top")
    cover, over = write(scratch / "file", "cover"), tmpfs(scratch / "over", "cover")
    now = shared_numbers(1)

    for _ in search.seeds():
        for number in range(PLACES):
            place = top / str(number)
            if number % 2:
                bind(cover, write(place, "secret"))
            else:
                bind(over, place)
        copied = copy_by(Caller.FOREIGN, top)
        for number in range(PLACES):
            umount2(top / str(number))
        now[0] = 0

        def look() -> set[str]:
            copied.enter()  # noqa: B023 - it ends within the round
            shown = set[str]()
            for number in range(PLACES):
                with suppress(FileNotFoundError):
                    while True:
                        shown.add(seen(f"/{number}"))
                        now[0] = number + 1
            return shown

        with started(look) as reader:
            for number in range(PLACES):
                while now[0] <= number and not reader.finished(0):
                    os.sched_yield()
                place = top / str(number)
                place.unlink() if number % 2 else place.rmdir()
            shown = reader.result()
        search.done += PLACES

        assert shown == {"cover", "['cover']"}
        assert mount_points(copied.ns_fd) == ["/"]
        os.close(copied.ns_fd)
        os.close(copied.userns_fd)


@pytest.mark.rule("K15")
@fixes.MOUNTS_ON_THE_DYING
def test_mounts_against_removal(search: Search, scratch: Path) -> None:
    """While a directory is made and removed outside, mounts inside are made on it, or refused; each
    goes with it, and none is left that is counted and listed nowhere."""
    top = tmpfs(scratch / "top")
    place = top / "place"
    fd = copy(top)

    def make_and_remove(_number: int) -> None:
        place.mkdir()
        place.rmdir()

    def look() -> None:
        enter(fd)
        for _ in range(ROUND):
            with suppress(OSError):
                mount("tmpfs", "/place", "tmpfs")

    for _ in search.seeds():
        with background_loops(make_and_remove):
            in_child(look)
        with suppress(FileNotFoundError):
            place.rmdir()
        search.done += ROUND
        assert (mount_points(fd), mnt_get_info(fd).nr_mounts) == (["/"], 1)


def covered_handle(scratch: Path) -> FileHandle:
    """Enter a foreign copy that has, in "/tree", a mount which covers a directory; return the
    handle of what is in that."""
    top = tmpfs(scratch / "top")
    tree = tmpfs(top / "tree", "covered/hidden/secret")
    handle = name_to_handle_at(AT_FDCWD, tree / "covered/hidden", 0)
    tmpfs(tree / "covered")
    (top / "bind").mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    return handle


@pytest.mark.rule("N11", "K15")
@pytest.mark.needs("file handles")
@fixes.HANDLES_UNDER_MOUNT_LOCK
@pytest.mark.upstream("locked_handle.lazy_umount")
def test_handles_against_lazy_umount(search: Search, scratch: Path) -> None:
    """While a tree with locked mounts is bound and lazily unmounted inside a foreign copy, a
    directory on it leads no file handle below them, mounted or not."""
    handle = covered_handle(scratch)

    def bind_and_unmount(_number: int) -> None:
        bind(Path("/tree"), Path("/bind"), recursive=True)
        umount2("/bind", MNT_DETACH)

    decode = partial(open_by_handle_at, flags=os.O_RDONLY | os.O_DIRECTORY)
    with background_loops(bind_and_unmount):
        for _ in search.seeds():
            for _ in range(ROUND):
                directory = os.open("/bind", os.O_RDONLY | os.O_DIRECTORY)
                ends = {str(outcome(decode, directory, handle)) for _ in range(5)}
                os.close(directory)
                assert ends <= {"EPERM", "ESTALE"}
            search.done += ROUND


@pytest.mark.rule("N11", "K15")
@pytest.mark.needs("file handles")
@fixes.HANDLES_UNDER_MOUNT_LOCK
@pytest.mark.upstream("locked_handle.dissolve")
def test_handles_against_the_end_of_a_tree(search: Search, scratch: Path) -> None:
    """So it does while a detached clone of the tree ends with its descriptor."""
    handle = covered_handle(scratch)
    flags = os.O_RDONLY | os.O_DIRECTORY

    def decode(directory: int, ends: set[str]) -> None:
        for _ in range(5):
            ends.add(str(outcome(open_by_handle_at, directory, handle, flags)))

    for _ in search.seeds():
        ends = set[str]()
        for _ in range(ROUND // 4):
            tree = clone("/tree", recursive=True)
            directory = os.open(".", flags, dir_fd=tree)
            thread = threading.Thread(target=decode, args=(directory, ends))
            thread.start()
            os.close(tree)
            thread.join()
            os.close(directory)
        search.done += ROUND // 4
        assert ends <= {"EPERM", "ESTALE"}
