# SPDX-License-Identifier: GPL-2.0-only
"""What statmount(2), listmount(2) and listns(2) are asked with, and where they answer."""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.trees import tmpfs
from tests.utils.uapi.constants import CLONE_NEWNS, LSMT_ROOT
from tests.utils.uapi.nsfs import NsIdReq
from tests.utils.uapi.statmount import STATMOUNT_ALL, MntIdReq, listmount, mnt_id_of, statmount
from tests.utils.uapi.syscalls import NR_LISTMOUNT, NR_LISTNS, NR_STATMOUNT, syscall

pytestmark = pytest.mark.needs("listns")

#: Where nothing is mapped.
NOWHERE = 0x1000
#: Room for an answer, in bytes.
ROOM = 16384


class Call(NamedTuple):
    """A call with a request: its number, a request of its newest version, the size of the first,
    and what it counts its room in."""

    number: int
    request: bytes
    first: int
    unit: int


def calls_of(top: int) -> dict[str, Call]:
    """Return the calls, each with a request that is answered where *top* is a mount's id."""
    size = ctypes.sizeof(MntIdReq)
    return {
        "statmount": Call(NR_STATMOUNT, bytes(MntIdReq(size, 0, top, int(STATMOUNT_ALL))), 24, 1),
        "listmount": Call(NR_LISTMOUNT, bytes(MntIdReq(size, 0, LSMT_ROOT)), 24, 8),
        "listns": Call(NR_LISTNS, bytes(NsIdReq(size, 0, 0, CLONE_NEWNS)), 32, 8),
    }


def ask(call: Call, size: int, *, more: bytes = b"", at: int = 0, to: int = 0) -> None:
    """Make *call* with its request, said to be of *size* bytes, and *more* behind it.

    :param at: where the request is instead.
    :param to: where the answer is to go instead of to a buffer.
    """
    buffer = ctypes.create_string_buffer(ROOM)
    request = ctypes.create_string_buffer(size.to_bytes(4, sys.byteorder) + call.request[4:] + more)
    syscall(
        "request",
        call.number,
        ctypes.c_void_p(at or ctypes.addressof(request)),
        ctypes.c_void_p(to or ctypes.addressof(buffer)),
        ctypes.c_size_t(ROOM // call.unit),
        ctypes.c_uint(0),
    )


@pytest.mark.rule("F13")
def test_size_of_the_request(scratch: Path) -> None:
    """A request may be larger than the kernel's where zeros follow, and is E2BIG otherwise, as is
    more than a page; one that is smaller than the first version is EINVAL. Where there is no
    request, or no room for the answer, it is EFAULT."""
    enter(copy(tmpfs(scratch / "top")))
    (top,) = listmount()
    found = {}
    for name, call in calls_of(top).items():
        newest = len(call.request)
        found[name] = {
            "first version": outcome(ask, call, call.first),
            "smaller": outcome(ask, call, call.first - 1),
            "zeros follow": outcome(ask, call, newest + 8, more=bytes(8)),
            "more follows": outcome(ask, call, newest + 8, more=b"\1".rjust(8, b"\0")),
            "more than a page": outcome(
                ask, call, mmap.PAGESIZE + 1, more=bytes(2 * mmap.PAGESIZE)
            ),
            "no request": outcome(ask, call, newest, at=NOWHERE),
            "no room": outcome(ask, call, newest, to=NOWHERE),
        }

    rule = {
        "first version": "success",
        "smaller": "EINVAL",
        "zeros follow": "success",
        "more follows": "E2BIG",
        "more than a page": "E2BIG",
        "no request": "EFAULT",
        "no room": "EFAULT",
    }
    assert found == dict.fromkeys(found, rule)


@pytest.mark.rule("F13")
def test_what_is_no_id_of_a_mount(scratch: Path) -> None:
    """The ids of mountinfo(5), which are given out again, are none to ask by: EINVAL; that of a
    mount in another namespace is ENOENT. More than a million are not listed at once: EOVERFLOW."""
    top = tmpfs(scratch / "top")
    fd = copy(top)
    old = range(0, (1 << 31) + 1, 1 << 29)

    found = {
        number: (outcome(listmount, number, ns_fd=fd), outcome(statmount, number, ns_fd=fd))
        for number in old
    }
    elsewhere = [outcome(call, mnt_id_of(top), ns_fd=fd) for call in (listmount, statmount)]
    counts = {
        count: outcome(partial(listmount, ns_fd=fd, page=count)) for count in (10**6, 10**6 + 1)
    }

    assert found == dict.fromkeys(old, ("EINVAL", "EINVAL"))
    assert elsewhere == ["ENOENT", "ENOENT"]
    assert counts == {10**6: "success", 10**6 + 1: "EOVERFLOW"}
