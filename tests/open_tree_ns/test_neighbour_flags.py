# SPDX-License-Identifier: GPL-2.0-only
"""The flags of the neighbours: which bits the calls take that make, refit or list a namespace.

Each call is made so that all it lacks is looked at after the flags: how it then ends tells whether
they were taken.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import pytest

from tests.utils.expect import Outcome, outcome
from tests.utils.tasks.process import in_clone3
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    CLONE_EMPTY_MNTNS,
    FSMOUNT_NAMESPACE,
    LISTMOUNT_REVERSE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_IDMAP,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_SET_GROUP,
    STATMOUNT_BY_FD,
    UNSHARE_EMPTY_MNTNS,
    Clone,
    Fsmount,
    MountAttr,
    MoveMount,
)
from tests.utils.uapi.syscalls import (
    NR_LISTMOUNT,
    NR_LISTNS,
    NR_MOUNT_SETATTR,
    NR_STATMOUNT,
    MountAttrStruct,
    fsmount,
    mount_setattr,
    move_mount,
    syscall,
    unshare,
)

pytestmark = pytest.mark.needs(
    "FSMOUNT_NAMESPACE", "UNSHARE_EMPTY_MNTNS", "STATMOUNT_BY_FD", "listns"
)

SETATTR_FLAGS = AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW
#: CSIGNAL and CLONE_DETACHED (``linux/sched.h``): clone3(2) takes neither.
_REFUSED_BY_CLONE3 = 0x0040007F
#: Bits 32 to 37 of clone3(2), CLONE_EMPTY_MNTNS the last of them.
_CLONE3 = 0x3F << 32


def fsmount_flags(flags: int) -> None:
    """fsmount(2) with *flags* of no descriptor."""
    fsmount(-1, FSMOUNT_NAMESPACE | flags)


def fsmount_attributes(attr_flags: int) -> None:
    """fsmount(FSMOUNT_NAMESPACE) with *attr_flags* of no descriptor."""
    fsmount(-1, FSMOUNT_NAMESPACE, attr_flags)


def move_mount_flags(flags: int) -> None:
    """move_mount(2) with *flags* to no path."""
    move_mount(-1, None, AT_FDCWD, None, MOVE_MOUNT_BENEATH | flags)


def mount_setattr_flags(flags: int) -> None:
    """mount_setattr(2) with *flags* and no struct."""
    size = ctypes.c_size_t(ctypes.sizeof(MountAttrStruct))
    syscall(
        "mount_setattr",
        NR_MOUNT_SETATTR,
        ctypes.c_long(-1),
        None,
        ctypes.c_ulong(flags),
        None,
        size,
    )


def mount_setattr_attributes(attr_set: int) -> None:
    """mount_setattr(2) with *attr_set* of no path."""
    mount_setattr(AT_FDCWD, None, attr_set=attr_set)


def clone3_flags(flags: int) -> None:
    """clone3(2) with *flags* of a child that ends at once."""
    in_clone3(CLONE_EMPTY_MNTNS | flags, partial(os.getpid))


def statmount_flags(flags: int) -> None:
    """statmount(2) with *flags* of no request."""
    syscall("statmount", NR_STATMOUNT, None, None, ctypes.c_size_t(0), ctypes.c_uint(flags))


def listmount_flags(flags: int) -> None:
    """listmount(2) with *flags* of no request."""
    syscall("listmount", NR_LISTMOUNT, None, None, ctypes.c_size_t(0), ctypes.c_uint(flags))


def listns_flags(flags: int) -> None:
    """listns(2) with *flags* of no request."""
    syscall("listns", NR_LISTNS, None, None, ctypes.c_size_t(0), ctypes.c_uint(flags))


def unshare_flags(flags: int) -> None:
    """unshare(2) with *flags*, which takes nobody away from anything."""
    unshare(UNSHARE_EMPTY_MNTNS | flags)


class Neighbour(NamedTuple):
    """A call with flags: the bits this suite knows, of how many, and how the call ends when the
    bits are taken."""

    call: Callable[[int], None]
    known: int
    bits: int
    taken: str


NEIGHBOURS = (
    Neighbour(fsmount_flags, sum(Fsmount), 32, "EBADF"),
    Neighbour(
        fsmount_attributes, sum(MountAttr) & ~MOUNT_ATTR_IDMAP | MOUNT_ATTR__ATIME, 32, "EBADF"
    ),
    Neighbour(move_mount_flags, sum(MoveMount), 32, "EFAULT"),
    Neighbour(mount_setattr_flags, SETATTR_FLAGS, 32, "EFAULT"),
    Neighbour(mount_setattr_attributes, sum(MountAttr) | MOUNT_ATTR__ATIME, 64, "EFAULT"),
    Neighbour(statmount_flags, STATMOUNT_BY_FD, 32, "EFAULT"),
    Neighbour(listmount_flags, LISTMOUNT_REVERSE, 32, "EFAULT"),
    Neighbour(listns_flags, 0, 32, "EFAULT"),
    Neighbour(clone3_flags, _CLONE3 | 0xFFFFFFFF & ~_REFUSED_BY_CLONE3, 64, "success"),
    # Last: afterwards the case has no /proc.
    Neighbour(unshare_flags, sum(Clone) & ~Clone.CLONE_PIDFD | UNSHARE_EMPTY_MNTNS, 31, "success"),
)


#: Those of which each flag can be told to be taken.
WITH_FLAGS = (
    fsmount_flags,
    move_mount_flags,
    mount_setattr_flags,
    statmount_flags,
    listmount_flags,
)


def bits_of(number: int) -> Iterator[int]:
    """Yield the bits of *number*, each as a number."""
    return (1 << bit for bit in range(64) if number >> bit & 1)


def with_unknown_bits() -> dict[tuple[str, str], tuple[Outcome, bool]]:
    """Return, for each neighbour with each bit that this suite does not know, how the call ended,
    and whether the bit was taken."""
    found = {}
    for neighbour in NEIGHBOURS:
        unknown = (1 << neighbour.bits) - 1 & ~neighbour.known
        for bit in bits_of(unknown):
            end = outcome(neighbour.call, bit)
            found[neighbour.call.__name__, hex(bit)] = end, end == neighbour.taken
    return found


@pytest.mark.rule("F12", "M2", "E3", "B1", "N21")
@pytest.mark.upstream(
    "empty_mntns_test.invalid_flags", "clone3_empty_mntns_test.unknown_flags_rejected"
)
def test_every_refused_bit() -> None:
    """Every bit of the neighbours' flags that is refused, of those this suite does not know, is
    refused by EINVAL."""
    refused = {name: end for name, (end, taken) in with_unknown_bits().items() if not taken}
    assert refused == dict.fromkeys(refused, "EINVAL")
    assert {call for call, _ in refused} == {n.call.__name__ for n in NEIGHBOURS}


@pytest.mark.rule("F12", "M2", "E3", "B1", "N21")
@pytest.mark.newer("a flag of the flag's neighbours that is younger than this suite")
def test_every_unknown_bit() -> None:
    """Every such bit is refused. One that is taken is the flag of a newer kernel, or ignored."""
    found = with_unknown_bits()
    assert [name for name, (_, taken) in found.items() if taken] == []


@pytest.mark.rule("F12", "M2", "B1", "N21")
def test_known_bits() -> None:
    """fsmount(2) takes FSMOUNT_CLOEXEC with FSMOUNT_NAMESPACE; MOVE_MOUNT_BENEATH goes with every
    flag for paths, and not with MOVE_MOUNT_SET_GROUP; mount_setattr(2) takes those for paths and
    AT_RECURSIVE; statmount(2) and listmount(2) have a flag each."""
    ends = {
        (neighbour.call.__name__, bit): (outcome(neighbour.call, bit), neighbour.taken)
        for neighbour in NEIGHBOURS
        if neighbour.call in WITH_FLAGS
        for bit in bits_of(neighbour.known)
    }
    assert {name: end for name, (end, _) in ends.items()} == {
        **{name: taken for name, (_, taken) in ends.items()},
        ("move_mount_flags", int(MOVE_MOUNT_SET_GROUP)): "EINVAL",
    }
