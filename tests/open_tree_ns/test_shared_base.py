# SPDX-License-Identifier: GPL-2.0-only
"""The base takes over the propagation of the caller's own base: the ground of a use-after-free.

The caller stands on a bare nullfs that is shared. Copies of a detached tmpfs are made there, so
that their bases are peers (or slaves) of the caller's root. Nothing is mounted on that root, so
that there are no paths: all is done by descriptor.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import fails
from tests.utils.model.prediction import base_of, namespace_tree
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    CLONE_NEWUSER,
    MNT_DETACH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    mount_setattr,
    pivot_root,
    umount2,
    unshare,
)

pytestmark = pytest.mark.usefixtures("unlocked")


def stand_on_a_shared_base() -> tuple[int, Mount]:
    """Enter a new namespace on its base, bare, and make that shared.

    Return the namespace and that base.
    """
    home = copy("", dirfd=fresh_tmpfs())
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    mount(None, "/", None, MS_SHARED)
    base = statmount(mnt_id_of("/"))
    assert (base.fs_type, base.mnt_propagation) == ("nullfs", MS_SHARED)
    return home, base


def copied_by(caller: Caller, tree: int, *, recursive: bool = False) -> int:
    """Have *caller* copy a detached tree; the case itself stays what it is."""
    make_copy = partial(copy, "", dirfd=tree, recursive=recursive)

    def make() -> list[int]:
        unshare(CLONE_NEWUSER)  # without id maps, since there is no /proc here
        return [make_copy()]

    return fds_from_child(make)[0] if caller.foreign else make_copy()


def stack_in(ns_fd: int) -> list[tuple[str, int]]:
    """Return file system and propagation of the mounts of a namespace that is one stack, lowest
    first."""
    stack: list[tuple[str, int]] = []
    layer = namespace_tree(ns_fd)
    while True:
        stack.append((layer.fs_type, layer.mnt_propagation))
        if not layer.children:
            return stack
        (layer,) = layer.children


def group_of(ns_fd: int) -> tuple[str, int, int, int]:
    """Return file system, type, peer group and master of a namespace's base."""
    base = base_of(ns_fd)
    return base.fs_type, base.mnt_propagation, base.mnt_peer_group, base.mnt_master


def expected_group(caller: Caller, here: Mount) -> tuple[str, int, int, int]:
    """State the rule for the base of a copy made where the root is *here*."""
    if caller.foreign:
        return "nullfs", MS_SLAVE, 0, here.mnt_peer_group
    return "nullfs", MS_SHARED, here.mnt_peer_group, 0


@pytest.mark.rule("G4", "G5")
def test_base_joins_the_group_of_the_root(caller: Caller) -> None:
    """The owner's base is in the peer group of the caller's, a foreign caller's is its slave; the
    top is private, and putting it on the base shows nowhere else."""
    tree = fresh_tmpfs()
    _, here = stand_on_a_shared_base()
    other = copy("", dirfd=tree)

    fd = copied_by(caller, tree)

    assert group_of(fd) == expected_group(caller, here)
    assert stack_in(fd) == [("tmpfs", MS_PRIVATE)]
    assert mount_table() == [here]
    assert stack_in(other) == [("tmpfs", MS_PRIVATE)]


@pytest.mark.rule("G5")
def test_mounts_arrive_beneath_the_top(caller: Caller) -> None:
    """What is mounted on the caller's root arrives on the base of each copy, beneath the top, which
    stays what one enters; when it is unmounted there, the copies are as they were."""
    tree = fresh_tmpfs()
    home, here = stand_on_a_shared_base()
    copies = [copied_by(caller, tree), copied_by(caller, tree)]
    tops = [mount_table(ns_fd=fd) for fd in copies]

    attach(fresh_tmpfs(), "/")

    arrived = MS_SLAVE if caller.foreign else MS_SHARED
    assert [stack_in(fd) for fd in copies] == [[("tmpfs", arrived), ("tmpfs", MS_PRIVATE)]] * 2
    for fd, (top,) in zip(copies, tops, strict=True):
        enter(fd)
        assert [mount.mnt_id for mount in mount_table()] == [mnt_id_of("/")] == [top.mnt_id]
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    assert [mount_table(ns_fd=fd) for fd in copies] == tops
    assert mount_table() == [here]


@pytest.mark.rule("G5", "G1")
@pytest.mark.needs("user namespace")
def test_owner_changes_the_base_inside() -> None:
    """An owner's base sends events as well: with the top of one copy goes what lies in its place on
    a peer or a slave, which is the top of every other copy, locked ones included; and what is then
    mounted there arrives everywhere."""
    tree = fresh_tmpfs()
    home, _ = stand_on_a_shared_base()
    one, two, foreign = (copied_by(c, tree) for c in (Caller.OWNER, Caller.OWNER, Caller.FOREIGN))

    enter(one)
    umount2("/", MNT_DETACH)
    enter(home)
    left = [mnt_get_info(fd).nr_mounts for fd in (home, one, two, foreign)]
    enter(one)
    attach(fresh_tmpfs(), "/")
    enter(home)

    assert left == [0, 0, 0, 0]
    assert stack_in(one) == stack_in(two) == [("tmpfs", MS_SHARED)]
    assert stack_in(foreign) == [("tmpfs", MS_SLAVE)]
    assert [mount.fs_type for mount in mount_table()] == ["tmpfs"]


@pytest.mark.rule("G5", "G6")
def test_pivot_root_on_a_shared_base() -> None:
    """It is the root's parent that must not be shared as well: on a shared base pivot_root(2) is
    EINVAL though the root and the new one are private, and nothing moves."""
    tree = fresh_tmpfs()
    os.mkdir("new", dir_fd=tree)
    stand_on_a_shared_base()
    fd = copy("", dirfd=tree)
    enter(fd)
    attach(fresh_tmpfs(), "/new")
    os.chdir("/new")
    before = mount_table()
    assert base_of(fd).mnt_propagation == MS_SHARED
    assert [mounted.mnt_propagation for mounted in before] == [MS_PRIVATE, MS_PRIVATE]

    fails(errno.EINVAL, pivot_root, ".", ".")

    assert mount_table() == before


@pytest.mark.rule("G5", "G3")
@pytest.mark.needs("user namespace")
def test_foreign_caller_keeps_to_itself() -> None:
    """A foreign caller's base sends nothing back: what is mounted in the one copy is in no other,
    and not on the caller's root."""
    tree = fresh_tmpfs()
    home, here = stand_on_a_shared_base()
    one, two, owner = (copied_by(c, tree) for c in (Caller.FOREIGN, Caller.FOREIGN, Caller.OWNER))
    others = mount_table(ns_fd=two), mount_table(ns_fd=owner)

    enter(one)
    attach(fresh_tmpfs(), "/")
    enter(home)

    assert stack_in(one) == [("tmpfs", MS_PRIVATE), ("tmpfs", MS_PRIVATE)]
    assert (mount_table(ns_fd=two), mount_table(ns_fd=owner)) == others
    assert mount_table() == [here]


#: What is on the base of a copy while something is mounted on the caller's root, and afterwards.
ARRIVED = {
    Caller.OWNER: [("tmpfs", MS_SHARED), ("tmpfs", MS_PRIVATE)],
    Caller.FOREIGN: [("tmpfs", MS_SLAVE), ("tmpfs", MS_PRIVATE)],
}
ALONE = [("tmpfs", MS_PRIVATE)]


def check_group(home: int, here: Mount, copies: dict[int, Caller]) -> None:
    """Check that the peer group of the caller's root is sound: a mount and an unmount there reach
    the *copies*, by whom they were made, and each is in the group as its maker's copies are."""
    attach(fresh_tmpfs(), "/")
    assert {fd: stack_in(fd) for fd in copies} == {fd: ARRIVED[by] for fd, by in copies.items()}
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    assert {fd: stack_in(fd) for fd in copies} == dict.fromkeys(copies, ALONE)
    assert {fd: group_of(fd) for fd in copies} == {
        fd: expected_group(by, here) for fd, by in copies.items()
    }
    assert mount_table() == [here]


@pytest.mark.rule("G5", "T4")
@fixes.DIRECTORIES_ONLY
@pytest.mark.needs("user namespace")
@fixes.REFUSED_COPIES
@pytest.mark.room(mount_namespaces=20)
def test_refused_copies_leave_the_group_sound(scratch: Path) -> None:
    """A copy that is refused takes its base out of the peer group again: after refusals of every
    kind, before and between copies that succeed, mounts reach exactly those.

    Kernels without the fix left a freed mount in the group and went on to use it.
    """
    tree, unbindable = fresh_tmpfs(), fresh_tmpfs()
    file = os.open("file", os.O_CREAT | os.O_RDWR, dir_fd=tree)
    mount_setattr(unbindable, "", AT_EMPTY_PATH, propagation=MS_UNBINDABLE)
    stranger = clone(scratch)
    home, here = stand_on_a_shared_base()
    copies: dict[int, Caller] = {}

    for _ in range(3):
        fails(errno.EINVAL, copy, "", dirfd=unbindable, recursive=True)
        fails(errno.EINVAL, copied_by, Caller.FOREIGN, unbindable, recursive=True)
        fails(errno.ENOTDIR, copy, "", dirfd=file)
        fails(errno.EINVAL, copy, "", dirfd=stranger, recursive=True)
        copies |= {copied_by(caller, tree): caller for caller in Caller}
        check_group(home, here, copies)


@pytest.mark.rule("G5", "T1")
@pytest.mark.needs("user namespace")
def test_closed_copies_leave_the_group_sound() -> None:
    """A copy that ends takes its base out of the peer group, from wherever in the ring it is:
    mounts reach exactly the copies that are left."""
    tree = fresh_tmpfs()
    home, here = stand_on_a_shared_base()
    copies = {copied_by(caller, tree): caller for _ in range(3) for caller in Caller}
    ring = list(copies)

    for gone in ((ring[3], ring[2]), (ring[0], ring[-1])):
        for fd in gone:
            os.close(fd)
            del copies[fd]
        check_group(home, here, copies)
