# SPDX-License-Identifier: GPL-2.0-only
"""Bugs there have been around handles: what lists namespaces and mounts, and what counts them."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.caps import keep_only
from tests.utils.constants import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    LSMT_ROOT,
    MNT_DETACH,
    Statmount,
)
from tests.utils.expect import fails
from tests.utils.fanotify import FAN_MNT_ATTACH, FAN_MNT_DETACH, mount_events, mount_watch
from tests.utils.limits import allow_mnt_namespaces
from tests.utils.model import base_of
from tests.utils.mounts import listmount, listmount_page, statmount_into
from tests.utils.nsfs import (
    current_mnt_ns,
    exists,
    listns,
    listns_page,
    ns_id,
)
from tests.utils.process import in_child
from tests.utils.syscalls import closing_fd, mount, umount2, unshare
from tests.utils.trees import bind, tmpfs
from tests.utils.userns import enter_new_userns
from tests.utils.visitor import Visitor

U64_MAX = 0xFFFFFFFFFFFFFFFF


@pytest.mark.rule("BL1", "R6")
@fixes.LISTNS_PERMISSION
@fixes.LISTNS_REFERENCE
@pytest.mark.needs("listns", "user namespace")
@pytest.mark.parametrize("state", ["foreign", "no_capabilities"])
def test_listns_as_a_non_owner(state: str, scratch: Path) -> None:
    """Without privilege in the initial user namespace listns(2) lists no namespace but one's own,
    and does nothing to those it leaves out: they go when their last handle is closed."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(50)]
    numbers = [ns_id(fd) for fd in fds]
    own = ns_id(current_mnt_ns())

    def ask() -> list[list[int]]:
        if state == "foreign":
            enter_new_userns()
        else:
            keep_only()
        return [listns() for _ in range(20)]

    assert in_child(ask) == [[own]] * 20
    assert [exists(number) for number in numbers] == [True] * len(fds)
    for fd in fds:
        os.close(fd)
    assert [exists(number) for number in numbers] == [False] * len(fds)


@pytest.mark.rule("BL2", "R6")
@fixes.LISTNS_INACTIVE
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
def test_listns_goes_on_behind_an_inactive_namespace(scratch: Path) -> None:
    """A page of listns(2) that would start at namespaces nobody can enter any more, only kept by
    an open mountinfo, starts with the next one; at the end of all it is ENOENT."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(5)]
    first, *inactive, last = [ns_id(fd) for fd in fds]
    with Visitor() as visitor:
        mountinfos = []
        for fd in fds[1:-1]:
            mountinfos.append(visitor.bring(fd, partial(visitor.open_own_proc_file, "mountinfo")))
            os.close(fd)
        assert [exists(number) for number in inactive] == [True] * 3

        for after in (first, *inactive):
            assert listns_page(after, 1) == [last]
        every = [ns for ns in listns(page=1) if first <= ns <= last]
        assert every == [first, last]
        os.close(fds[-1])
        ends = listns(page=1)
        assert [ns for ns in ends if first <= ns <= last] == [first]
        for fd in mountinfos:
            os.close(fd)
    assert [exists(number) for number in inactive] == [False] * 3


@pytest.mark.rule("BL3", "Y4")
@fixes.LISTMOUNT_CURSOR
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside"])
def test_listmount_after_the_largest_id(inside: bool, scratch: Path) -> None:
    """Nothing comes after the largest id there can be; in reverse, everything comes before it."""
    top = tmpfs(scratch / "top")
    for name in "abc":
        tmpfs(top / name)
    fd = copy(top, recursive=True)
    ids = listmount(ns_fd=fd)
    base = base_of(fd).mnt_id
    if inside:
        enter(fd)
    page = partial(listmount_page, ns_fd=-1 if inside else fd)

    for below in (LSMT_ROOT, ids[0], base):
        for after in (ids[-1], ids[-1] + 1, U64_MAX - 1, U64_MAX):
            assert page(below, after) == []
    assert page(LSMT_ROOT, U64_MAX, reverse=True) == ids[::-1]
    assert page(LSMT_ROOT, ids[0], reverse=True) == []


@pytest.mark.rule("BL4")
@fixes.STATMOUNT_BUFFER
def test_statmount_with_little_room(scratch: Path) -> None:
    """Asked for a string, statmount(2) takes no buffer without room for it behind the fixed part
    (EOVERFLOW), nor for the empty one it keeps there; it never writes past the buffer."""
    fd = copy(tmpfs(scratch / "leaf"))
    (top,) = listmount(ns_fd=fd)
    base = base_of(fd).mnt_id
    fixed, untouched = 512, b"\xaa"
    sizes = [0, 1, 8, 100, *range(fixed - 2, fixed + 16), 4096]

    def least(mnt_id: int, mask: int) -> int:
        """The least size that is enough, given that all larger ones are."""
        enough: dict[int, bool] = {}
        for size in sizes:
            buffer = ctypes.create_string_buffer(untouched * 8192, 8192)
            try:
                statmount_into(buffer, size, mnt_id, mask, ns_fd=fd)
            except OSError as error:
                assert error.errno == errno.EOVERFLOW, f"size {size}: {error}"  # noqa: PT017
                enough[size] = False
            else:
                enough[size] = True
            written = len(buffer.raw.rstrip(untouched))
            assert written <= size, f"size {size}: {written} bytes written"
        assert list(enough.values()) == sorted(enough.values())
        smallest: int = min(size for size in sizes if enough[size])
        return smallest

    assert least(top, Statmount.STATMOUNT_MNT_BASIC) == 0
    # The base has no mount point, so that nothing but the reserved empty string is copied.
    assert least(base, Statmount.STATMOUNT_MNT_POINT) == fixed + 1
    assert least(top, Statmount.STATMOUNT_MNT_POINT) == fixed + 1 + len("/\0")
    assert least(top, Statmount.STATMOUNT_FS_TYPE) == fixed + 1 + len("tmpfs\0")


@pytest.mark.rule("BL5")
@fixes.UNSHARED_FS_STRUCT
@fixes.ACTIVE_REFERENCES
@pytest.mark.needs("nested user namespace", "UTS namespace")
def test_unshare_that_fails_half_way(scratch: Path) -> None:
    """unshare(2) that makes a mount namespace and then fails, hundreds of times inside a new
    namespace, keeps nothing of what it made and loses nothing of where it was made."""
    top = tmpfs(scratch / "top")
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_new_userns()
    Path("/proc/sys/user/max_uts_namespaces").write_text("0")
    allow_mnt_namespaces(2)
    fd = copy(top, recursive=True)
    number, ids = ns_id(fd), listmount(ns_fd=fd)
    enter(fd)

    for _ in range(200):
        for kinds in (CLONE_NEWNS | CLONE_NEWUTS, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS):
            fails(errno.ENOSPC, unshare, kinds)
    assert os.stat("/proc/self/ns/mnt").st_ino == os.fstat(fd).st_ino
    assert listmount() == ids

    os.close(fd)
    assert exists(number)
    unshare(CLONE_NEWNS)
    assert not exists(number)


@pytest.mark.rule("BL5", "R6")
@fixes.UNSHARED_FS_STRUCT
@fixes.ACTIVE_REFERENCES
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
def test_listed_through_entering_and_unsharing(scratch: Path) -> None:
    """However often tasks enter a namespace, unshare(2) from it and leave, listns(2) lists it and
    each copy exactly as long as they are held."""
    leaf = tmpfs(scratch / "leaf")
    with Visitor() as visitor:

        def place() -> int:
            return visitor.run(lambda: visitor.open_own_proc_file("ns/mnt"))

        for _ in range(50):
            fd = copy(leaf)
            number = ns_id(fd)
            assert number in listns()
            visitor.enter(fd)
            os.close(fd)
            assert number in listns()
            fd = place()
            visitor.run(lambda: unshare(CLONE_NEWNS))
            with closing_fd(place()) as own:
                copied = ns_id(own)
            assert {number, copied} <= {*listns()}
            os.close(fd)
            assert {number, copied} & {*listns()} == {copied}
            visitor.leave()
            assert {number, copied} & {*listns()} == set()


@pytest.mark.rule("BL6", "R8")
@fixes.MARKS_IN_PROCESS_CONTEXT
@pytest.mark.needs("mount events")
def test_watches_in_every_order(caller: Caller, scratch: Path) -> None:
    """Handle, watches and a task inside may go in any order, with events read or not: each mount
    is reported once, and the namespace lives as long as handle and task do."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    holders = ["handle", "task", "watch", "unread watch"]
    turns = [holders[count:] + holders[:count] for count in range(len(holders))]
    orders = [*turns, *(turn[::-1] for turn in turns)]
    wrong = []
    with Visitor() as visitor:
        for order in orders:
            fd = copy(leaf)
            number = ns_id(fd)
            watches = mount_watch(fd), mount_watch(fd)
            visitor.bring(fd, partial(mount, "tmpfs", "/", "tmpfs"))
            attached = listmount(ns_fd=fd)[-1]
            visitor.bring(fd, partial(umount2, "/", MNT_DETACH))
            wanted = [(FAN_MNT_ATTACH, attached), (FAN_MNT_DETACH, attached)]
            visitor.enter(fd)
            end: dict[str, Callable[[], None]] = {
                "handle": partial(os.close, fd),
                "task": visitor.leave,
                "watch": partial(os.close, watches[0]),
                "unread watch": partial(os.close, watches[1]),
            }
            if mount_events(watches[0], 1) != wanted:
                wrong.append("not one event for each: attached, detached")
            left = [*order]
            for name in order:
                end[name]()
                left.remove(name)
                if exists(number) is not ("handle" in left or "task" in left):
                    wrong.append(f"with {left} left, exists: {exists(number)}")
    assert wrong == []
