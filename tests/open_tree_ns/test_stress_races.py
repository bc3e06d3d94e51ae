# SPDX-License-Identifier: GPL-2.0-only
"""Calls at the same time, again and again: whoever comes first, the outcome is one of the right
ones.

Each race has background loops: children that do the same thing over and over, and the case itself,
which looks at every result. On one processor without kernel preemption they only meet where a call
sleeps: more processors see more.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import Node, namespace_tree
from tests.utils.mounts.limits import allow_mnt_namespaces, count_until_enospc, enter_counted_userns
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import bind, fresh_tmpfs, propagation, tmpfs
from tests.utils.search.plugin import Search
from tests.utils.tasks.loops import background_loops
from tests.utils.tasks.process import in_child, shared_numbers, started
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.uapi.nsfs import listns, ns_id
from tests.utils.uapi.statmount import listmount
from tests.utils.uapi.syscalls import attach, move_mount, umount2

pytestmark = [pytest.mark.stress, pytest.mark.needs("user namespace")]

#: Rounds between two looks at the clock.
ROUND = 200
#: Namespaces that the creators may have.
LIMIT = 8


def copy_tree(path: Path | str, dirfd: int = AT_FDCWD) -> Node:
    """Copy *path*, recursively, and return the tree of the copy; see :func:`copy`."""
    fd = copy(path, dirfd=dirfd, recursive=True)
    try:
        return namespace_tree(fd)
    finally:
        os.close(fd)


@pytest.mark.rule("C2", "C4", "R4")
def test_copies_against_mounts(caller: Caller, search: Search, scratch: Path) -> None:
    """While below the directory two trees are each moved between two places, and a third one is
    attached and lazily unmounted, each copy is of one moment: the two are in one place each, the
    third is there or not, and all are whole."""
    top = tmpfs(scratch / "top")
    bind(tmpfs(scratch / "stays"), top / "stays")
    tree = tmpfs(scratch / "tree")
    for name in ("a", "b"):
        tmpfs(tree / name)
    for name in ("one", "three"):
        bind(tree, top / name, recursive=True)
    for name in ("two", "four", "five"):
        (top / name).mkdir()

    def move(one: str, two: str, number: int) -> None:
        here, there = (one, two) if number % 2 == 0 else (two, one)
        move_mount(AT_FDCWD, top / here, AT_FDCWD, top / there, 0)

    def come_and_go(_number: int) -> None:
        attach_and_detach(tree, top / "five")

    def whole(*places: str) -> list[str]:
        inside = [f"{place}{name}" for place in places for name in ("", "/a", "/b")]
        return sorted(["/", "/stays", *inside])

    moments = [
        whole(first, second, *third)
        for first in ("/one", "/two")
        for second in ("/three", "/four")
        for third in ((), ("/five",))
    ]

    def look() -> None:
        caller.act()
        for _ in range(ROUND):
            points = sorted(copy_tree(top).mount_points())
            assert points in moments, f"a copy of no one moment: {points}"

    with background_loops(partial(move, "one", "two"), partial(move, "three", "four"), come_and_go):
        for _ in search.seeds():
            in_child(look)
            search.done += ROUND


def attach_and_detach(tree: Path, target: Path) -> None:
    """Attach a clone of *tree* in one call, and unmount it lazily in one."""
    cloned = clone(tree, recursive=True)
    attach(cloned, target)
    umount2(target, MNT_DETACH)
    os.close(cloned)


@pytest.mark.rule("G1", "G2", "C7")
def test_copies_against_changes_of_type(caller: Caller, search: Search, scratch: Path) -> None:
    """While a child changes its propagation type, its copy is as one of these types makes it: what
    is shared has a group, a slave has a master, and others have neither."""
    top = tmpfs(scratch / "top")
    child = tmpfs(top / "child")
    types = (MS_PRIVATE, MS_SHARED, MS_SLAVE, MS_UNBINDABLE)
    # Type, and whether there are a peer group and a master.
    private, shared, slave = (MS_PRIVATE, 0, 0), (MS_SHARED, 1, 0), (MS_SLAVE, 0, 1)
    allowed = {private, slave, (MS_UNBINDABLE, 0, 0)} if caller.foreign else {private, shared}

    def look() -> None:
        caller.act()
        for _ in range(ROUND):
            copies = copy_tree(top).children
            # An owner's copy is without what is unbindable.
            assert len(copies) == 1 or not (copies or caller.foreign)
            for copied in copies:
                groups = bool(copied.mnt_peer_group), bool(copied.mnt_master)
                assert (copied.mnt_propagation, *groups) in allowed, copied.line()

    with background_loops(lambda number: propagation(child, types[number % 4])):
        for _ in search.seeds():
            in_child(look)
            search.done += ROUND


@pytest.mark.rule("T3", "T4")
@pytest.mark.needs("sysctl")
def test_creators_under_a_limit(search: Search, scratch: Path) -> None:
    """Two create at once under a low limit until each is refused with ENOSPC: together they have
    what one alone can have. And so again, after both have closed what they had."""
    enter_counted_userns()
    leaf = tmpfs(scratch / "leaf")
    allow_mnt_namespaces(LIMIT)
    alone = count_until_enospc(leaf)
    dice = Random(0)
    place, had, refusals = shared_numbers(2), shared_numbers(2), shared_numbers(2)

    def meet(me: int) -> None:
        place[me] += 1
        while min(place) < place[me]:
            os.sched_yield()

    def create(most: int) -> tuple[list[int], int]:
        fds: list[int] = []
        try:
            while len(fds) < most:
                # Otherwise each would wait for the other's call to end, always at the same place.
                for _ in range(dice.randrange(1000)):
                    pass
                fds.append(copy(leaf))
        except OSError as error:
            return fds, error.errno or 0
        return fds, 0

    def turn(me: int) -> None:
        # One may still close when the other creates.
        for _ in range(2):
            close_all(create(1)[0])
        meet(me)
        fds, refusals[me] = create(LIMIT + 1)
        had[me] = len(fds)
        meet(me)
        close_all(fds)

    def forever() -> None:
        dice.seed(1)
        while True:
            turn(1)

    with started(forever):
        for _ in search.seeds():
            for _ in range(ROUND // 10):
                turn(0)
                together, ends = sum(had), {*refusals}
                assert together == alone, (
                    f"{together} namespaces at once where {alone} are allowed: {[*had]}"
                )
                assert ends == {errno.ENOSPC}, ends
            search.done += ROUND // 10


def close_all(fds: list[int]) -> None:
    """Close all of *fds*."""
    for fd in fds:
        os.close(fd)


def copy_until_unmounted(directory: int) -> None:
    """Copy the whole tree at *directory* again and again, to be refused when it is unmounted.

    :raises OSError: EINVAL once it is.
    """
    for _ in range(10 * ROUND):
        points = copy_tree("", directory).mount_points()
        assert points == ["/", "/child"], f"of an unmounted tree: {points}"


@pytest.mark.rule("P12")
def test_copies_against_lazy_umount(search: Search, scratch: Path) -> None:
    """While a tree is attached and lazily unmounted again, a directory on it gives whole copies
    until it is unmounted, and EINVAL then. The directory below it gives one with or without it."""
    tree = tmpfs(scratch / "tree")
    tmpfs(tree / "child")
    top = scratch / "top"
    top.mkdir()
    below = os.stat(top).st_dev

    def turn(_number: int) -> None:
        attach_and_detach(tree, top)

    with background_loops(turn):
        for _ in search.seeds():
            for _ in range(ROUND):
                directory = os.open(top, os.O_PATH | os.O_DIRECTORY)
                if os.fstat(directory).st_dev == below:
                    assert copy_tree("", directory).mount_points() in (["/"], ["/", "/", "/child"])
                else:
                    fails(errno.EINVAL, copy_until_unmounted, directory)
                os.close(directory)
            search.done += ROUND


@pytest.mark.rule("T1")
def test_listmount_against_close(search: Search, scratch: Path) -> None:
    """While a namespace is closed, listmount(2) of its id gives all its mounts or ENOENT, and
    ENOENT at once when close(2) has returned."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    tmpfs(top / "child" / "below")
    newest = shared_numbers(1)

    def make(_number: int) -> None:
        fd = copy(top, recursive=True)
        newest[0] = number = ns_id(fd)
        os.close(fd)
        assert gone(number), f"mount namespace {number} is there after its last close(2)"

    with background_loops(make, make):
        for _ in search.seeds():
            for _ in range(ROUND):
                end = outcome(listmount, ns_id=newest[0])
                mounts = len(end.result) if isinstance(end.result, list) else 0
                assert (end, mounts) in (("success", 3), ("ENOENT", 0)), (
                    f"{end!r}, of a namespace of 3 mounts: {mounts} mounts"
                )
            search.done += ROUND


@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.rule("R6")
@pytest.mark.isolated(pid_namespace=False)
def test_listns_against_close(search: Search, scratch: Path) -> None:
    """While namespaces come and go, listns(2) lists those that stay, in order, and afterwards none
    of those that went."""
    leaf = tmpfs(scratch / "leaf")
    newest = shared_numbers(2)
    held: list[int] = []

    def make(me: int, _number: int) -> None:
        held.append(copy(leaf))
        newest[me] = ns_id(held[-1])
        close_all(held[:-1])
        del held[:-1]

    for _ in search.seeds():
        seen = set[int]()
        with background_loops(partial(make, 0), partial(make, 1)):
            for _ in range(ROUND):
                before = {*newest}
                listed = listns(page=4)
                # The newest is closed when there is a newer one.
                stayed = before & {*newest}
                assert listed == sorted(set(listed))
                assert stayed <= {*listed}, f"listns(2) lists {listed}, but not {stayed}"
                seen |= before
        search.done += ROUND
        assert not seen & {*listns()}, "listns(2) lists namespaces that are gone"


@pytest.mark.needs("MOVE_MOUNT_BENEATH on the root", "unlocked root")
@pytest.mark.rule("N6")
def test_entry_against_a_root_swap(search: Search, scratch: Path, unlocked: None) -> None:
    """While the root is swapped again and again, each root with a number, whoever enters stands on
    one of them, and on none that was gone before."""
    ns = copy(tmpfs(scratch / "first", "0"))
    swapped = shared_numbers(1)

    def swap(number: int) -> None:
        enter(ns)
        tree = fresh_tmpfs()
        os.close(os.open(f"{number + 1}", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree))
        attach_beneath(tree, "/")
        os.close(tree)
        umount2("/", MNT_DETACH)
        swapped[0] = number + 1

    def look() -> None:
        for _ in range(ROUND):
            before = swapped[0]
            enter(ns)
            root = os.listdir("/")
            assert len(root) == 1, f"entered after swap {before}, and found {root}"
            assert int(root[0]) >= before, f"entered after swap {before}, and found {root}"

    with background_loops(swap):
        for _ in search.seeds():
            in_child(look)
            search.done += ROUND
