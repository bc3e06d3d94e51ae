# SPDX-License-Identifier: GPL-2.0-only
"""Whose a new namespace is, and what follows: who may ask for the owner, see it, and enter it.

The cases on several owners use one family of user namespaces: the case's own, a child, a child of
that child, and a second child beside it. Each makes a namespace of the same directory.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import answer, fails, outcome
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.process import holding, in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    CLONE_NEWUSER,
    MNT_DETACH,
    MS_SHARED,
)
from tests.utils.uapi.nsfs import (
    NS_GET_OWNER_UID,
    NS_GET_PARENT,
    current_mnt_ns,
    mnt_get_info,
    ns_get_userns,
    ns_id,
    ns_inode,
    ns_ioctl,
)
from tests.utils.uapi.statmount import listmount, mount_table, statmount
from tests.utils.uapi.syscalls import setns, umount2

pytestmark = pytest.mark.needs("user namespace")
T = TypeVar("T")

#: Each user namespace of the family with those it is in, itself first.
LINEAGE = {
    "own": ("own",),
    "child": ("child", "own"),
    "grandchild": ("grandchild", "child", "own"),
    "sibling": ("sibling", "own"),
}
PAIRS = [(member, owner) for member in LINEAGE for owner in LINEAGE]


def has_power(member: str, owner: str) -> bool:
    """State the rule: those in a user namespace, or in one it lies in, have power over it."""
    return member in LINEAGE[owner]


@dataclass(frozen=True, slots=True)
class Family:
    """The user namespaces, and a mount namespace made in each."""

    userns: dict[str, int]
    handles: dict[str, int]

    def everyone(self, question: Callable[[int], T]) -> dict[tuple[str, str], T]:
        """Ask each member, with all capabilities it can have, about each owner's handle."""
        found = {}
        for member, userns in self.userns.items():

            def ask(member: str = member, userns: int = userns) -> dict[str, T]:
                if member != "own":
                    setns(userns, CLONE_NEWUSER)
                return {owner: question(handle) for owner, handle in self.handles.items()}

            for owner, said in in_child(ask).items():
                found[member, owner] = said
        return found


def make_family(leaf: Path) -> Family:
    """Make the four user namespaces, each with a copy of *leaf*."""

    def handles() -> list[int]:
        return [os.open("/proc/self/ns/user", os.O_RDONLY), copy(leaf)]

    def children(count: int) -> Callable[[], Sequence[int]]:
        def run() -> list[int]:
            fds = []
            for _ in range(count):
                enter_new_userns()
                fds += handles()
            return fds

        return run

    fds = [*handles(), *fds_from_child(children(2)), *fds_from_child(children(1))]
    return Family(
        dict(zip(LINEAGE, fds[::2], strict=True)), dict(zip(LINEAGE, fds[1::2], strict=True))
    )


def owner_of(handle: int) -> tuple[int, int]:
    """Return device and inode number of the user namespace that owns *handle*'s."""
    return ns_inode(ns_get_userns(handle))


@pytest.mark.rule("U2", "U3")
@pytest.mark.needs("nested user namespace")
@pytest.mark.upstream("owner.owner")
def test_owner_is_the_callers_user_namespace(scratch: Path) -> None:
    """NS_GET_USERNS of each new namespace is the user namespace it was made in, three deep too;
    it is EPERM for those the owner does not lie in."""
    family = make_family(tmpfs(scratch / "leaf"))
    inodes = {owner: ns_inode(fd) for owner, fd in family.userns.items()}

    found = family.everyone(lambda handle: answer(owner_of, handle))

    assert found == {
        (member, owner): inodes[owner] if has_power(member, owner) else "EPERM"
        for member, owner in PAIRS
    }


@pytest.mark.rule("U3")
def test_no_parent_and_no_owner_uid(scratch: Path) -> None:
    """A mount namespace has no parent, and no owner's uid of its own: both ioctls are EINVAL."""
    fd = copy(tmpfs(scratch / "leaf"))
    for request in (NS_GET_PARENT, NS_GET_OWNER_UID):
        fails(errno.EINVAL, ns_ioctl, fd, request)


@pytest.mark.rule("U7", "U8")
@fixes.STATMOUNT_PERMISSION
@pytest.mark.needs("nested user namespace")
@pytest.mark.upstream("statmount_test_ns.listmount_ns")
def test_who_sees_it_by_id(scratch: Path) -> None:
    """By its id a namespace is listed to those with power over its owner; for others, whatever
    they may do at home, listmount(2) is ENOENT and statmount(2) EPERM. By descriptor everyone
    sees the tree, and those with power over the owner the hidden base too."""
    leaf = tmpfs(scratch / "leaf")
    owners, foreigners = (
        predict_copy(leaf, recursive=False, foreign=foreign).lines() for foreign in (False, True)
    )
    assert owners == foreigners  # a private mount: it is the same for all
    family = make_family(leaf)
    seen = {owner: (*mount_table(ns_fd=fd), base_of(fd)) for owner, fd in family.handles.items()}

    def look(handle: int) -> tuple[object, ...]:
        mnt_ns_id, (top,) = ns_id(handle), listmount(ns_fd=handle)
        base = statmount(top, ns_fd=handle).mnt_parent_id
        return (
            answer(listmount, ns_id=mnt_ns_id),
            answer(statmount, top, ns_id=mnt_ns_id),
            answer(statmount, base, ns_fd=handle),
            namespace_tree(handle).lines(),
            mnt_get_info(handle).nr_mounts,
        )

    found = family.everyone(look)

    def rule(member: str, owner: str) -> tuple[object, ...]:
        top, base = seen[owner]
        powerful = [top.mnt_id], top, base
        return powerful if has_power(member, owner) else ("ENOENT", "EPERM", "EPERM")

    assert found == {(member, owner): (*rule(member, owner), owners, 1) for member, owner in PAIRS}


@pytest.mark.rule("U4", "U6")
@pytest.mark.needs("nested user namespace")
def test_who_may_enter(scratch: Path) -> None:
    """A namespace is entered from its owner or from above; from below, or from beside, with all
    capabilities of one's own user namespace, setns(2) is EPERM."""
    leaf = tmpfs(scratch / "leaf", "leaf.txt")
    family = make_family(leaf)

    def try_to_enter(handle: int) -> tuple[str, bool]:
        (top,) = listmount(ns_fd=handle)
        end = outcome(enter, handle)
        return end, end == "success" and listmount() == [top] == listmount(ns_fd=handle)

    found = family.everyone(try_to_enter)

    assert found == {
        (member, owner): ("success", True) if has_power(member, owner) else ("EPERM", False)
        for member, owner in PAIRS
    }


@contextmanager
def inside_a_lower_namespace(scratch: Path) -> Iterator[Path]:
    """Enter a mount namespace that a user namespace below one's own owns; give a shared tree."""

    def below() -> None:
        enter_new_userns()
        enter_new_mount_ns()
        top = tmpfs(scratch / "top", "covered/under.txt")
        tmpfs(top / "covered", "cover.txt")
        propagation(top, MS_SHARED, recursive=True)

    with holding(below) as other:
        enter(os.open(other.proc("ns/mnt"), os.O_RDONLY))
        owner = ns_get_userns(current_mnt_ns())
        assert ns_inode(owner) != ns_inode("/proc/self/ns/user")
        yield scratch / "top"


@pytest.mark.rule("U5", "G2", "K1")
def test_caller_from_above_is_foreign(scratch: Path) -> None:
    """A caller that sits in a mount namespace of a user namespace below its own is foreign as
    well: slaves for shared mounts, everything locked; and the copy is its own."""
    with inside_a_lower_namespace(scratch) as top:
        expected = predict_copy(top, recursive=True, foreign=True)
        before = mount_table()
        fd = copy(top, recursive=True)
        assert mount_table() == before

    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)
    for path in ("/covered", "/"):
        fails(errno.EINVAL, umount2, path, MNT_DETACH)
    assert os.listdir("/covered") == ["cover.txt"]


@pytest.mark.rule("U5", "K6")
@fixes.KEEP_COVERED
def test_caller_from_above_uncovers_nothing(scratch: Path) -> None:
    """Neither may it leave out what is mounted below the directory: EINVAL."""
    with inside_a_lower_namespace(scratch) as top:
        fails(errno.EINVAL, copy, top)
