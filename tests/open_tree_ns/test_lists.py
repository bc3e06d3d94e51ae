# SPDX-License-Identifier: GPL-2.0-only
"""What lists namespaces and mounts: NS_MNT_GET_NEXT, listns(2), listmount(2), statmount(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import Outcome, answer, outcome
from tests.utils.model.prediction import base_of
from tests.utils.mounts.settle import gone, settled
from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import (
    CLONE_NEWNS,
    LSMT_ROOT,
    Statmount,
)
from tests.utils.uapi.nsfs import (
    LISTNS_CURRENT_USER,
    NS_MNT_GET_NEXT,
    NS_MNT_GET_PREV,
    current_mnt_ns,
    exists,
    listns,
    listns_page,
    mnt_get_neighbour,
    ns_id,
)
from tests.utils.uapi.statmount import (
    StatmountStruct,
    listmount,
    listmount_page,
    statmount,
    statmount_into,
)
from tests.utils.uapi.syscalls import closing_fd, unshare

#: Where :func:`walk` keeps the one descriptor it needs.
NEIGHBOUR = 500


def walk(fd: int, request: int) -> list[int]:
    """Return the ids of all namespaces from that of *fd* on, itself left out, until ENOENT.

    A step that does not lead on, upwards or downwards, ends the walk: it would not end by itself.
    """
    ids: list[int] = []
    call = "NS_MNT_GET_NEXT" if request == NS_MNT_GET_NEXT else "NS_MNT_GET_PREV"
    before = ns_id(fd)
    while True:
        try:
            neighbour, info = mnt_get_neighbour(fd, request)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return ids
        assert not os.get_inheritable(neighbour), f"{call} gave a descriptor that survives exec"
        found = info.mnt_ns_id
        assert ns_id(neighbour) == found, f"{call} told another id than that of the descriptor"
        onwards = before < found if request == NS_MNT_GET_NEXT else before > found
        assert onwards, f"{call} led from the namespace with id {before} to that with id {found}"
        ids.append(found)
        before = found
        fd = os.dup2(neighbour, NEIGHBOUR, inheritable=False)
        os.close(neighbour)


@pytest.mark.rule("R5")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.room(descriptors=NEIGHBOUR + 10)
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("iterate_mount_namespaces.iterate_all_forward")
@pytest.mark.upstream("iterate_mount_namespaces.iterate_all_backwards")
@pytest.mark.upstream("iterate_mount_namespaces.iterate_forward")
@pytest.mark.upstream("iterate_mount_namespaces.iterate_backward")
def test_neighbours(scratch: Path) -> None:
    """NS_MNT_GET_NEXT from the caller's namespace passes the new ones, in the order of their ids,
    and ends with ENOENT; NS_MNT_GET_PREV is the way back. Each step's descriptor is closed on
    exec, and holds nothing once it is closed."""
    leaf = tmpfs(scratch / "leaf")
    here = current_mnt_ns()
    fds = [copy(leaf) for _ in range(3)]
    closed = ns_id(fds[1])
    os.close(fds.pop(1))
    assert gone(closed)
    ids = [ns_id(fd) for fd in fds]

    onwards = walk(here, NS_MNT_GET_NEXT)
    back = walk(fds[-1], NS_MNT_GET_PREV)

    assert onwards == sorted(set(onwards))
    assert back == sorted(set(back), reverse=True)
    own = [ns_id(here), *ids]
    assert [number for number in onwards if number in own] == ids
    assert [number for number in back if number in own] == [ids[0], ns_id(here)]
    assert closed not in onwards
    assert closed not in back


@pytest.mark.rule("R6")
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("listns_test.listns_basic_unified")
@pytest.mark.upstream("listns_test.listns_filter_by_type")
@pytest.mark.upstream("ns_active_ref_test.ns_inactive_after_exit")
@pytest.mark.upstream("ns_active_ref_test.ns_fd_keeps_active")
def test_listed_while_held(scratch: Path) -> None:
    """listns(2) lists the namespace from the call on until its last holder, a descriptor or a
    task, is gone."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(2)]
    ids = [ns_id(fd) for fd in fds]

    def listed() -> list[int]:
        found = listns()
        assert found == sorted(set(found))
        return [number for number in found if number in ids]

    assert listed() == ids
    os.close(fds[0])
    assert settled(listed, ids[1:]) == ids[1:]
    with NamespaceThread() as thread:
        thread.enter(fds[1])
        os.close(fds[1])
        assert listed() == ids[1:]
        thread.leave()
        assert settled(listed, []) == []


U64_MAX = 0xFFFFFFFFFFFFFFFF


@pytest.mark.rule("BL5", "R6")
@fixes.UNSHARED_FS_STRUCT
@fixes.ACTIVE_REFERENCES
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
def test_listed_through_entering_and_unsharing(scratch: Path) -> None:
    """However often tasks enter a namespace, unshare(2) from it and leave, listns(2) lists it and
    each copy exactly as long as they are held."""
    leaf = tmpfs(scratch / "leaf")
    with NamespaceThread() as thread:

        def listed_still(number: int) -> bool:
            return settled(lambda: number in listns(), False)

        def namespace_of_the_task() -> int:
            return thread.run(lambda: thread.open_own_proc_file("ns/mnt"))

        for turn in range(50):
            fd = copy(leaf)
            first, listed = ns_id(fd), {}
            listed["made"] = first in listns()
            thread.enter(fd)
            os.close(fd)
            listed["entered"] = first in listns()
            fd = namespace_of_the_task()
            thread.run(lambda: unshare(CLONE_NEWNS))
            with closing_fd(namespace_of_the_task()) as own:
                second = ns_id(own)
            listed["unshared from, still open"] = first in listns()
            listed["unshared to"] = second in listns()
            os.close(fd)
            listed["unshared from, closed"] = listed_still(first)
            thread.leave()
            listed["left"] = listed_still(second)

            assert listed == {
                "made": True,
                "entered": True,
                "unshared from, still open": True,
                "unshared to": True,
                "unshared from, closed": False,
                "left": False,
            }, f"in turn {turn}"


@pytest.mark.rule("BL2", "R6")
@fixes.LISTNS_INACTIVE
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.parametrize("owner", [0, LISTNS_CURRENT_USER], ids=["all", "own"])
def test_listns_goes_on_behind_an_inactive_namespace(owner: int, scratch: Path) -> None:
    """A page of listns(2) that would start at namespaces nobody can enter any more, only kept by
    an open mountinfo, starts with the next one; at the end of all it is ENOENT. So it is with all
    namespaces, and with those that one's user namespace owns."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(5)]
    first, *inactive, last = [ns_id(fd) for fd in fds]
    with NamespaceThread() as thread:
        mountinfos = []
        for fd in fds[1:-1]:
            mountinfos.append(thread.call_in(fd, partial(thread.open_own_proc_file, "mountinfo")))
            os.close(fd)
        assert [exists(number) for number in inactive] == [True] * 3

        def listed() -> list[int]:
            return [number for number in listns(page=1) if first <= number <= last]

        def next_made(after: int) -> object:
            """Page on where somebody else has made a namespace meanwhile."""
            while True:
                page = answer(listns_page, after, 1, user_ns_id=owner)
                match page:
                    case [int(number)] if number not in (*inactive, last):
                        after = number
                    case _:
                        return page

        for after in (first, *inactive):
            assert settled(partial(next_made, after), [last]) == [last], f"after {after}"
        assert settled(listed, [first, last]) == [first, last]
        os.close(fds[-1])
        assert settled(listed, [first]) == [first]
        for fd in mountinfos:
            os.close(fd)
    assert gone(*inactive)


@pytest.mark.rule("BL7")
@fixes.LISTNS_CURSOR
@pytest.mark.needs("listns")
@pytest.mark.parametrize("owner", [0, LISTNS_CURRENT_USER], ids=["all", "own"])
@pytest.mark.upstream("listns_test.listns_current_user")
def test_listns_after_the_largest_id(owner: int, scratch: Path) -> None:
    """listns(2) ends after the largest id there can be, of all namespaces and of those that one's
    user namespace owns: ENOENT."""
    copy(tmpfs(scratch / "leaf"))

    got = {
        after: outcome(listns_page, after, 256, user_ns_id=owner)
        for after in (U64_MAX - 1, U64_MAX)
    }

    assert got == {U64_MAX - 1: "ENOENT", U64_MAX: "ENOENT"}


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

    cursors = {"last": ids[-1], "next": ids[-1] + 1, "U64_MAX - 1": U64_MAX - 1, "U64_MAX": U64_MAX}
    mounts = {"root": LSMT_ROOT, "top": ids[0], "base": base}

    found = {
        f"below {mount}, after {cursor}": page(mnt_id, after)
        for mount, mnt_id in mounts.items()
        for cursor, after in cursors.items()
    }

    assert found == {where: [] for where in found}
    assert page(LSMT_ROOT, U64_MAX, reverse=True) == ids[::-1]
    assert page(LSMT_ROOT, ids[0], reverse=True) == []


@pytest.mark.rule("U8")
def test_descriptor_of_no_mount_namespace(scratch: Path) -> None:
    """Asked by a descriptor of a directory, of a user namespace or of nothing, listmount(2) and
    statmount(2) are refused, and by descriptor and id at once: EINVAL, for a closed one EBADF."""
    fd = copy(tmpfs(scratch / "leaf"))
    (top,) = listmount(ns_fd=fd)
    others = {
        "directory": os.open(scratch, os.O_RDONLY),
        "user namespace": os.open("/proc/self/ns/user", os.O_RDONLY),
        "closed": 1 << 20,
    }

    found = {
        name: (outcome(listmount, ns_fd=other), outcome(statmount, top, ns_fd=other))
        for name, other in others.items()
    }
    found["with an id"] = (
        outcome(listmount, ns_id=ns_id(fd), ns_fd=fd),
        outcome(statmount, top, ns_id=ns_id(fd), ns_fd=fd),
    )

    assert found == {
        "directory": ("EINVAL", "EINVAL"),
        "user namespace": ("EINVAL", "EINVAL"),
        "closed": ("EBADF", "EBADF"),
        "with an id": ("EINVAL", "EINVAL"),
    }


#: The size of a statmount(2) answer without strings.
FIXED = ctypes.sizeof(StatmountStruct)
#: Sizes of buffers: small ones, and each around those that are just enough.
SIZES = (0, 1, 8, 100, *range(FIXED - 2, FIXED + 16), 4096)


def ask_with_room(size: int, mnt_id: int, mask: int, ns_fd: int) -> tuple[Outcome, int]:
    """Make one call of statmount(2) with a buffer of *size* bytes; return how it ended, and how
    many bytes were written, also behind that buffer."""
    untouched = b"\xaa"
    buffer = ctypes.create_string_buffer(untouched * 8192, 8192)
    end = outcome(statmount_into, buffer, size, mnt_id, mask, ns_fd=ns_fd)
    return end, len(buffer.raw.rstrip(untouched))


@pytest.mark.rule("BL4")
@fixes.STATMOUNT_BUFFER
@pytest.mark.upstream("statmount_test.statmount_string")
def test_statmount_with_little_room(scratch: Path) -> None:
    """Asked for a string, statmount(2) takes no buffer without room for it behind the fixed part
    (EOVERFLOW), nor for the empty one it keeps there; it never writes past the buffer."""
    fd = copy(tmpfs(scratch / "leaf"))
    (top,) = listmount(ns_fd=fd)
    base = base_of(fd).mnt_id
    # What is asked for: of which mount, and the least size that is enough.
    questions = {
        "no string": (Statmount.STATMOUNT_MNT_BASIC, top, 0),
        # The base has no mount point: what is copied is the reserved empty string alone.
        "no mount point": (Statmount.STATMOUNT_MNT_POINT, base, FIXED + 1),
        "mount point": (Statmount.STATMOUNT_MNT_POINT, top, FIXED + 1 + len("/\0")),
        "type": (Statmount.STATMOUNT_FS_TYPE, top, FIXED + 1 + len("tmpfs\0")),
    }

    ends, past, rule = {}, {}, {}
    for name, (mask, mnt_id, enough) in questions.items():
        for size in SIZES:
            ends[name, size], written = ask_with_room(size, mnt_id, mask, fd)
            rule[name, size] = "success" if size >= enough else "EOVERFLOW"
            if written > size:
                past[name, size] = written

    assert past == {}
    assert ends == rule
