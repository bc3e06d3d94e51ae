# SPDX-License-Identifier: GPL-2.0-only
"""listns(2), by which namespaces are found: pages, kinds, refusals, and who is listed as an
owner."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter
from tests.open_tree_ns.trees import tree_with_proc
from tests.utils.expect import fails, outcome
from tests.utils.mounts.settle import gone, settled
from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS
from tests.utils.uapi.nsfs import (
    LISTNS_CURRENT_USER,
    NS_GET_ID,
    NsIdReq,
    listns,
    listns_page,
    ns_id,
)
from tests.utils.uapi.syscalls import NR_LISTNS, syscall, unshare

pytestmark = pytest.mark.needs("listns")

#: Copies that are listed.
MANY = 5


def listns_into(
    address: int, count: int, *, spare: int = 0, user_ns_id: int = 0, flags: int = 0
) -> int:
    """Call listns(2) once for mount namespaces, with room for *count* ids at *address*."""
    request = NsIdReq(ctypes.sizeof(NsIdReq), spare, 0, CLONE_NEWNS, 0, user_ns_id)
    return syscall(
        "listns",
        NR_LISTNS,
        ctypes.byref(request),
        ctypes.c_void_p(address),
        ctypes.c_size_t(count),
        ctypes.c_uint(flags),
    )


@pytest.mark.rule("R6")
@pytest.mark.needs("sight of all namespaces", "network namespace")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("listns_test.listns_pagination")
@pytest.mark.upstream("listns_test.listns_multiple_types")
@pytest.mark.upstream("listns_pagination_bug.pagination_with_type_filter")
def test_pages_and_kinds(scratch: Path) -> None:
    """Copies are listed in the order of their ids, whatever the size of a page, among mount
    namespaces and among those of several kinds together, and not among others."""
    leaf = tmpfs(scratch / "leaf")
    ids = [ns_id(copy(leaf)) for _ in range(MANY)]

    found = {
        page: [number for number in listns(page=page) if number in ids] for page in (1, 2, 3, 256)
    }
    both = listns(CLONE_NEWNS | CLONE_NEWUSER)

    assert found == dict.fromkeys(found, ids)
    assert [number for number in both if number in ids] == ids
    assert both == sorted({*both})
    assert {*listns(CLONE_NEWUSER)} & {*ids} == set()
    assert ns_id(os.open("/proc/self/ns/net", os.O_RDONLY), NS_GET_ID) not in both


@pytest.mark.rule("R6")
@pytest.mark.upstream("listns_test.listns_error_cases")
@pytest.mark.upstream("listns_efault_test.listns_complete_fault")
@pytest.mark.upstream("listns_efault_test.listns_null_buffer")
def test_refusals() -> None:
    """Flags, a spare field that is not 0, and more ids than it takes at once are refused, EINVAL
    and EOVERFLOW; kinds that there are none of are ENOTSUP, a buffer that is not there EFAULT.
    """
    room = ctypes.create_string_buffer(8 * MANY)
    at = ctypes.addressof(room)

    assert {
        "flags": str(outcome(listns_into, at, MANY, flags=0xFFFF)),
        "spare": str(outcome(listns_into, at, MANY, spare=1)),
        "too many": str(outcome(listns_into, at, 2_000_000)),
        "kinds": str(outcome(listns_page, 0, MANY, CLONE_NEWNS | 1)),
        "NULL": str(outcome(listns_into, 0, MANY)),
        "no memory": str(outcome(listns_into, 0xDEADBEEF, MANY)),
    } == {
        "flags": "EINVAL",
        "spare": "EINVAL",
        "too many": "EOVERFLOW",
        "kinds": "ENOTSUP",
        "NULL": "EFAULT",
        "no memory": "EFAULT",
    }


@pytest.mark.rule("R6", "T2")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("listns_efault_test.listns_mnt_ns_cleanup_on_fault")
def test_page_that_faults_half_way_holds_nothing(scratch: Path) -> None:
    """A page whose buffer ends in the middle is EFAULT, and lets go of each namespace it was about
    to list: they end with their handles."""
    leaf = tmpfs(scratch / "leaf")
    fds = [copy(leaf) for _ in range(MANY)]
    ids = [ns_id(fd) for fd in fds]
    memory = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    at = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None)
    libc.mprotect(ctypes.c_void_p(at + mmap.PAGESIZE), ctypes.c_size_t(mmap.PAGESIZE), 0)

    for room in range(MANY):
        fails(errno.EFAULT, listns_into, at + mmap.PAGESIZE - 8 * room, 256)
    for fd in fds:
        os.close(fd)

    assert gone(*ids), "a namespace outlives its handle"


@pytest.mark.rule("R11")
@pytest.mark.needs("sight of all namespaces", "listns", "user namespace")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("listns_test.listns_specific_userns")
def test_listed_by_owner(caller: Caller, scratch: Path) -> None:
    """listns(2) with a user namespace's id lists the mount namespaces which that one owns: the new
    one among its maker's, and not among another's."""
    copied = copy_by(caller, tmpfs(scratch / "leaf"))
    other = copy_by(Caller.FOREIGN, scratch / "leaf")
    number = ns_id(copied.ns_fd)

    def owned(userns_fd: int, after: int = 0) -> list[int]:
        return listns_page(after, 256, user_ns_id=ns_id(userns_fd, NS_GET_ID))

    listed = {
        "its owner's": number in owned(copied.userns_fd, number - 1),
        "another's": owned(other.userns_fd),
    }

    assert listed == {"its owner's": True, "another's": [ns_id(other.ns_fd)]}


@pytest.mark.rule("R11")
@pytest.mark.needs("sight of all namespaces", "user namespace")
@pytest.mark.isolated(pid_namespace=False)
def test_pages_of_an_owner(scratch: Path) -> None:
    """What a user namespace owns is listed in pages of every size. That of one there is none of is
    EINVAL, and a buffer that is not there EFAULT: what was to be listed ends with its handles."""
    leaf = tmpfs(scratch / "leaf")

    def make() -> list[int]:
        become_foreign()
        return [os.open("/proc/self/ns/user", os.O_RDONLY), *(copy(leaf) for _ in range(MANY))]

    userns, *fds = fds_from_child(make)
    owner, ids = ns_id(userns, NS_GET_ID), [ns_id(fd) for fd in fds]
    owned = partial(listns_page, user_ns_id=owner)

    pages = {size: [owned(after, size) for after in (0, *ids)[:MANY:size]] for size in (1, 2, MANY)}
    refused = {
        "no such owner": outcome(listns_page, 0, MANY, user_ns_id=1 << 62),
        "no memory": outcome(listns_into, 0xDEADBEEF, MANY, user_ns_id=owner),
    }
    for fd in fds:
        os.close(fd)

    assert pages == {
        size: [ids[first : first + size] for first in range(0, MANY, size)] for size in pages
    }
    assert refused == {"no such owner": "EINVAL", "no memory": "EFAULT"}
    assert gone(*ids), "a namespace outlives its handle"


@pytest.mark.rule("R11", "BL1")
@fixes.LISTNS_PERMISSION
@pytest.mark.needs("user namespace")
@pytest.mark.upstream("listns_test.listns_hierarchical_visibility")
@pytest.mark.upstream("listns_permissions_test.listns_cap_sys_admin_in_userns")
@pytest.mark.upstream("listns_permissions_test.listns_current_user_permissions")
@pytest.mark.upstream("listns_permissions_test.listns_parent_userns_cap_sys_admin")
@pytest.mark.upstream("listns_permissions_test.listns_cap_sys_admin_inside_userns")
def test_owner_sees_what_it_is_in(scratch: Path) -> None:
    """In a user namespace below, with all capabilities there, one sees of what that one owns only
    what one is in oneself: asked for by its id, as one's own, or among all."""
    top = tree_with_proc(scratch)
    become_foreign()
    userns = ns_id(os.open("/proc/self/ns/user", os.O_RDONLY), NS_GET_ID)
    fd, other = copy(top, recursive=True), copy(top, recursive=True)
    enter(fd)

    found = {
        "by id": listns_page(0, 256, user_ns_id=userns),
        "own": listns_page(0, 256, user_ns_id=LISTNS_CURRENT_USER),
        "all": listns(),
    }

    assert [*found.values()] == [[ns_id(fd)]] * 3
    assert ns_id(other) > ns_id(fd)


@pytest.mark.rule("R11")
@pytest.mark.needs("sight of all namespaces", "nested user namespace")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("ns_active_ref_test.userns_active_ref_lifecycle")
@pytest.mark.upstream("ns_active_ref_test.ns_parent_always_reachable")
@pytest.mark.upstream("ns_active_ref_test.ns_multilevel_hierarchy")
@pytest.mark.upstream("ns_active_ref_test.ns_deep_hierarchy_propagation")
@pytest.mark.upstream("ns_active_ref_test.ns_userns_child_propagation")
def test_owners_are_listed_as_long_as_the_namespace(scratch: Path) -> None:
    """Its owner and the user namespaces above are listed as long as it is, though nothing else
    holds them and no task is in any; afterwards none is."""
    leaf = tmpfs(scratch / "leaf")

    def three_levels() -> list[int]:
        owners = []
        for _ in range(3):
            become_foreign()
            owners.append(os.open("/proc/self/ns/user", os.O_RDONLY))
        return [copy(leaf), *owners]

    fd, *owners = fds_from_child(three_levels)
    ids = [ns_id(owner, NS_GET_ID) for owner in owners]
    for owner in owners:
        os.close(owner)

    def listed() -> list[int]:
        return [number for number in listns(CLONE_NEWUSER) if number in ids]

    held = listed()
    os.close(fd)

    assert held == ids
    assert settled(listed, []) == []


@pytest.mark.rule("R11")
@pytest.mark.needs("sight of all namespaces", "listns", "UTS namespace")
@pytest.mark.isolated(pid_namespace=False)
def test_an_owners_list_is_of_the_types_asked_for(scratch: Path) -> None:
    """Of what a user namespace owns listns(2) lists the types that were asked for, be it one."""
    mnt = ns_id(copy(tmpfs(scratch / "leaf")), NS_GET_ID)
    unshare(CLONE_NEWUTS)
    uts = ns_id(os.open("/proc/self/ns/uts", os.O_RDONLY), NS_GET_ID)
    owned = partial(listns_page, mnt - 1, 256, user_ns_id=LISTNS_CURRENT_USER)
    types = (CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNS | CLONE_NEWUTS)

    found = {
        asked: [number for number in owned(kinds=asked) if number in (mnt, uts)] for asked in types
    }

    assert list(found.values()) == [[mnt], [uts], [mnt, uts]]
