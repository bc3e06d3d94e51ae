# SPDX-License-Identifier: GPL-2.0-only
"""Calls at the same time, again and again: whoever comes first, the outcome is one of the right
ones.

Each race has rivals, which are children that do the same thing over and over, and the case itself,
which looks at every result. On one processor without kernel preemption they only meet where a call
sleeps: more processors see more.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from tests.open_tree_ns.conftest import Caller
from tests.utils.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.expect import outcome
from tests.utils.limits import allow_mnt_namespaces, start_counting, until_refused
from tests.utils.model import Node, namespace_tree
from tests.utils.mounts import listmount
from tests.utils.nsfs import exists, listns, ns_id
from tests.utils.process import in_child, started
from tests.utils.stress import Search
from tests.utils.syscalls import mount, move_mount, open_tree, setns, umount2
from tests.utils.trees import bind, fresh_tmpfs, propagation, tmpfs

pytestmark = [pytest.mark.stress, pytest.mark.needs("user namespace")]

FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
#: Rounds between two looks at the clock.
ROUND = 200


@contextmanager
def rivals(*functions: Callable[[int], object]) -> Iterator[None]:
    """Children that call their function with 0, 1, 2, ... until the block ends.

    What the kernel refuses them is their own affair; that they are still there at the end is not.
    """

    def forever(function: Callable[[int], object]) -> None:
        for number in count():
            with suppress(OSError):
                function(number)

    with ExitStack() as stack:
        tasks = [stack.enter_context(started(partial(forever, each))) for each in functions]
        yield
        assert not any(task.finished(0) for task in tasks), "a rival has ended"


def copy_tree(path: Path | str, flags: int = FLAGS | AT_RECURSIVE) -> Node:
    """The tree of a copy made now."""
    fd = open_tree(AT_FDCWD, path, flags)
    try:
        return namespace_tree(fd)
    finally:
        os.close(fd)


@pytest.mark.rule("C2", "C4", "R4")
def test_copies_against_mounts(caller: Caller, search: Search, scratch: Path) -> None:
    """While mounts come and go below the directory, each copy is a whole tree: mounts that stay
    are in it, others are there or not, and nothing lies where its parent is not."""
    top = tmpfs(scratch / "top")
    bind(tmpfs(scratch / "stays"), top / "stays")
    for name in ("one", "two"):
        (top / name).mkdir()

    def churn(name: str) -> Callable[[int], object]:
        def turn(_number: int) -> None:
            mount("tmpfs", top / name, "tmpfs")
            (top / name / "below").mkdir()
            mount("tmpfs", top / name / "below", "tmpfs")
            umount2(top / name, MNT_DETACH)

        return turn

    whole = {"/", "/stays", "/one", "/one/below", "/two", "/two/below"}

    def look() -> None:
        caller.act()
        for _ in range(ROUND):
            points = copy_tree(top).mount_points()
            assert len(points) == len(set(points))
            assert {"/", "/stays"} <= set(points) <= whole
            for name in ("/one", "/two"):
                assert name in points or f"{name}/below" not in points, points

    with rivals(churn("one"), churn("two")):
        for _ in search.seeds():
            in_child(look)
            search.done += ROUND


@pytest.mark.rule("G1", "G2", "C7")
def test_copies_against_changes_of_type(caller: Caller, search: Search, scratch: Path) -> None:
    """While a child changes its propagation type, its copy is as one of these types makes it."""
    top = tmpfs(scratch / "top")
    child = tmpfs(top / "child")
    types = (MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE)
    allowed = {MS_PRIVATE, MS_SLAVE, MS_UNBINDABLE} if caller.foreign else {MS_PRIVATE, MS_SHARED}

    def look() -> None:
        caller.act()
        for _ in range(ROUND):
            copies = copy_tree(top).children
            # An owner's copy is without what is unbindable.
            assert len(copies) == 1 or not (copies or caller.foreign)
            assert {copy.mnt_propagation for copy in copies} <= allowed

    with rivals(lambda number: propagation(child, types[number % 4])):
        for _ in search.seeds():
            in_child(look)
            search.done += ROUND


@pytest.mark.rule("T3", "T4")
def test_creators_under_a_limit(search: Search, scratch: Path) -> None:
    """Many create and close at once under a low limit: each has a copy or ENOSPC, and afterwards
    as many can be had as before."""
    start_counting()
    leaf = tmpfs(scratch / "leaf")
    allow_mnt_namespaces(6)
    before = until_refused(leaf)

    def create(_number: int) -> None:
        fds = [open_tree(AT_FDCWD, leaf, FLAGS) for _ in range(2)]
        for fd in fds:
            os.close(fd)

    for _ in search.seeds():
        with rivals(create, create, create):
            ends = Counter(outcome(lambda: copy_tree(leaf)) for _ in range(ROUND))
        search.done += ROUND
        assert set(ends) <= {"allowed", "ENOSPC"}
        assert until_refused(leaf) == before, "namespaces stay counted"


@pytest.mark.rule("P12")
def test_copies_against_lazy_umount(search: Search, scratch: Path) -> None:
    """While the source is unmounted lazily and mounted anew, there is a whole copy or EINVAL. The
    directory may be the one below the mounts: then they lie on the root of the copy."""
    top = scratch / "top"
    top.mkdir()

    def turn(_number: int) -> None:
        tmpfs(top)
        tmpfs(top / "child")
        umount2(top, MNT_DETACH)

    mounted = [["/"], ["/", "/child"]]
    whole = [*mounted, *(["/", *points] for points in mounted)]

    def once(directory: int) -> str:
        try:
            fd = open_tree(directory, "", FLAGS | AT_EMPTY_PATH | AT_RECURSIVE)
        except OSError as error:
            return str(error.errno)
        points = namespace_tree(fd).mount_points()
        os.close(fd)
        assert points in whole, points
        return "allowed"

    with rivals(turn):
        for _ in search.seeds():
            ends = Counter[str]()
            for _ in range(ROUND):
                directory = os.open(top, os.O_PATH | os.O_DIRECTORY)
                ends[once(directory)] += 1
                os.close(directory)
            search.done += ROUND
            assert set(ends) <= {"allowed", "22"}, ends


@pytest.mark.needs("listns")
@pytest.mark.rule("T1", "R6")
def test_lists_against_close(search: Search, scratch: Path) -> None:
    """While namespaces are closed they are in the lists or they are not: listmount(2) answers with
    all mounts or ENOENT, and listns(2) ends."""
    leaf = tmpfs(scratch / "leaf")
    read_end, write_end = os.pipe()

    def make(_number: int) -> None:
        fd = open_tree(AT_FDCWD, leaf, FLAGS)
        os.write(write_end, ns_id(fd).to_bytes(8, "little"))
        os.close(fd)

    with rivals(make):
        for _ in search.seeds():
            for _ in range(ROUND):
                number = int.from_bytes(os.read(read_end, 8), "little")
                found: list[int] = []
                answer = outcome(lambda: found.extend(listmount(ns_id=number)))  # noqa: B023
                assert (answer, len(found)) in (("allowed", 1), ("allowed", 0), ("ENOENT", 0))
                listns()
            search.done += ROUND
    # What the rival made last may have been open when it was killed.
    last = b""
    os.set_blocking(read_end, False)
    with suppress(BlockingIOError):
        while block := os.read(read_end, 1 << 16):
            last = block
    for start in range(0, len(last), 8):
        assert not exists(int.from_bytes(last[start : start + 8], "little"))


@pytest.mark.needs("MOVE_MOUNT_BENEATH on the root", "unlocked root")
@pytest.mark.rule("N6")
def test_entry_against_a_root_swap(search: Search, scratch: Path, unlocked: None) -> None:
    """Whoever enters while the root is swapped stands on the old one or the new one, and on the
    new one afterwards."""
    old = tmpfs(scratch / "old", "old")

    def swap(ns: int) -> None:
        setns(ns, CLONE_NEWNS)
        tree = fresh_tmpfs()
        os.close(os.open("new", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree))
        beneath = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH
        move_mount(tree, "", AT_FDCWD, "/", beneath)
        umount2("/", MNT_DETACH)

    def enter(ns: int) -> list[str]:
        setns(ns, CLONE_NEWNS)
        return os.listdir("/")

    for _ in search.seeds():
        ns = open_tree(AT_FDCWD, old, FLAGS)
        with started(partial(swap, ns)) as task:
            found = [in_child(partial(enter, ns)) for _ in range(4)]
            task.result()
        assert all(root in (["old"], ["new"]) for root in found), found
        assert in_child(partial(enter, ns)) == ["new"]
        os.close(ns)
        search.done += 1
