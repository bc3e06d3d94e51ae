# SPDX-License-Identifier: GPL-2.0-only
"""One swap for many namespaces: their bases are peers, or slaves, so that what MOVE_MOUNT_BENEATH
puts beneath the root of one comes to lie beneath the root of each.

The namespaces are made where the caller stands on a bare base that is shared; there are no paths
there, so that all is done by descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, copy, enter
from tests.utils.expect import Outcome, outcome
from tests.utils.model.prediction import base_of
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    CLONE_NEWUSER,
    MNT_DETACH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import mount, mount_setattr, move_mount, umount2, unshare

pytestmark = [
    pytest.mark.needs("MOVE_MOUNT_BENEATH on the root"),
    pytest.mark.usefixtures("unlocked"),
    fixes.BENEATH_THE_ROOT,
]
T = TypeVar("T")


def tree_with(name: str) -> int:
    """Make a detached tmpfs with an empty file *name* and return its descriptor."""
    tree = fresh_tmpfs()
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree))
    return tree


def put_on(tree: int, name: str, propagation: int = MS_PRIVATE) -> None:
    """Put a tmpfs on the directory *name*, made for it, of a detached tree."""
    os.mkdir(name, dir_fd=tree)
    child = fresh_tmpfs()
    mount_setattr(child, "", AT_EMPTY_PATH, propagation=propagation)
    to_fd = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    move_mount(child, "", os.open(name, os.O_PATH, dir_fd=tree), "", to_fd)


class Namespaces(NamedTuple):
    """The namespace on whose base the others were made, and those, the first an owner's."""

    home: int
    first: int
    others: list[int]

    def inside(self, ns_fd: int, function: Callable[[], T]) -> T:
        """Return what *function* returns in the namespace *ns_fd*; come back."""
        enter(ns_fd)
        try:
            return function()
        finally:
            enter(self.home)

    def swap(self, ns_fd: int, tree: int) -> None:
        """Make *tree* the root of *ns_fd*, from inside."""
        self.inside(ns_fd, partial(attach_beneath, tree, "/"))
        self.inside(ns_fd, partial(step_over, tree))

    def files(self) -> list[list[str]]:
        """Return what whoever enters finds in the root of each, the first one first."""
        listed = partial(os.listdir, "/")
        return [sorted(self.inside(fd, listed)) for fd in (self.first, *self.others)]


def make_namespaces(caller: Caller, *, propagation: int = MS_SHARED) -> Namespaces:
    """Make namespaces of one root: the first as its owner, two more as *caller*."""
    old = tree_with("old")
    home = copy("", dirfd=fresh_tmpfs())
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    mount(None, "/", None, propagation)

    def make() -> list[int]:
        if caller.foreign:
            unshare(CLONE_NEWUSER)  # without id maps, since there is no /proc here
        return [copy("", dirfd=old) for _ in range(2)]

    first = copy("", dirfd=old)
    return Namespaces(home, first, fds_from_child(make) if caller.foreign else make())


def step_over(tree: int) -> None:
    """Step onto *tree*, which lies beneath the root, and take the old root away."""
    os.fchdir(tree)
    os.chroot(".")
    umount2(".", MNT_DETACH)


def stack(ns_fd: int) -> list[Mount]:
    """Return the mounts on the base of *ns_fd*, the lowest first."""
    table = {mounted.mnt_parent_id: mounted for mounted in mount_table(ns_fd=ns_fd)}
    layers = [base_of(ns_fd)]
    while layers[-1].mnt_id in table:
        layers.append(table.pop(layers[-1].mnt_id))
    return layers[1:]


@pytest.mark.rule("B9")
def test_one_swap_for_all(caller: Caller) -> None:
    """Beneath the root of each namespace lies the new root, while all still find the old one; one
    unmount then takes the old root from all. New roots are peers, or a foreign caller's slaves."""
    made = make_namespaces(caller)
    namespaces = [made.first, *made.others]
    olds = {fd: stack(fd)[0].mnt_id for fd in namespaces}
    new = tree_with("new")

    made.inside(made.first, partial(attach_beneath, new, "/"))

    stacks = {fd: stack(fd) for fd in namespaces}
    low, _ = stacks[made.first]
    assert low.mnt_id == mnt_id_of(new)
    group = low.mnt_peer_group
    peer, slave = (MS_SHARED, group, 0), (MS_SLAVE, 0, group)
    assert {fd: (len(layers), layers[-1].mnt_id) for fd, layers in stacks.items()} == {
        fd: (2, old) for fd, old in olds.items()
    }
    assert {
        fd: (low.mnt_propagation, low.mnt_peer_group, low.mnt_master)
        for fd, (low, _) in stacks.items()
    } == {made.first: peer, **dict.fromkeys(made.others, slave if caller.foreign else peer)}
    assert made.files() == [["old"]] * 3

    made.inside(made.first, partial(step_over, new))

    assert {fd: [layer.mnt_id for layer in stack(fd)] for fd in namespaces} == {
        fd: [low.mnt_id] for fd, (low, _) in stacks.items()
    }
    assert made.files() == [["new"]] * 3


@pytest.mark.rule("B9", "K8")
@fixes.LOCK_ABOVE_A_PROPAGATED_COPY
def test_locks_after_the_swap(caller: Caller) -> None:
    """Before and after, a foreign caller's namespace has its root locked: the old one goes when
    whoever swapped takes it away, and not before. An owner may take away the new one, from all, and
    the old one before."""
    made = make_namespaces(caller)
    new = tree_with("new")

    def end_inside() -> Outcome:
        return made.inside(made.others[0], partial(outcome, umount2, "/", MNT_DETACH))

    made.inside(made.first, partial(attach_beneath, new, "/"))
    between = end_inside()
    if caller.foreign:
        made.inside(made.first, partial(step_over, new))
    after = end_inside()

    end, left = ("EINVAL", 1) if caller.foreign else ("success", 0)
    assert (between, after) == (end, end)
    assert [mnt_get_info(fd).nr_mounts for fd in made.others] == [left] * 2


@pytest.mark.rule("B9")
def test_whole_trees_arrive(caller: Caller) -> None:
    """The new root comes with all that is mounted on it, and goes with it in a second swap: that of
    the first namespace, or among owners of the last, which reaches the first as well."""
    made = make_namespaces(caller)
    namespaces = [made.first, *made.others]
    trees = [tree_with("one"), tree_with("two")]
    put_on(trees[0], "child")

    def found() -> tuple[list[list[str]], list[int]]:
        return made.files(), [mnt_get_info(fd).nr_mounts for fd in namespaces]

    made.swap(made.first, trees[0])
    assert found() == ([["child", "one"]] * 3, [2] * 3)
    made.swap(made.first if caller.foreign else namespaces[-1], trees[1])
    assert found() == ([["two"]] * 3, [1] * 3)


@pytest.mark.rule("B9")
@pytest.mark.needs("user namespace")
def test_foreign_swap_stays_inside() -> None:
    """A foreign caller's swap of its own root reaches no other namespace."""
    made = make_namespaces(Caller.FOREIGN)
    others = [made.first, made.others[1]]
    new = tree_with("new")

    before = [mount_table(ns_fd=fd) for fd in others]

    made.swap(made.others[0], new)

    assert made.files() == [["old"], ["new"], ["old"]]
    assert [mount_table(ns_fd=fd) for fd in others] == before
    assert len(mount_table()) == 1


@pytest.mark.rule("B9")
def test_private_bases_have_nothing_in_common() -> None:
    """Where the base they were made on was private, one swap is for one namespace."""
    made = make_namespaces(Caller.OWNER, propagation=MS_PRIVATE)
    new = tree_with("new")
    before = [mount_table(ns_fd=fd) for fd in made.others]

    made.swap(made.first, new)

    assert [mount_table(ns_fd=fd) for fd in made.others] == before
    assert made.files() == [["new"], ["old"], ["old"]]


@pytest.mark.rule("B9")
@pytest.mark.needs("user namespace")
def test_tasks_stay_until_they_enter_again() -> None:
    """Who is inside one of the other namespaces stands on its old root afterwards, gone from every
    list, until it enters again."""
    with NamespaceThread() as thread:
        made = make_namespaces(Caller.FOREIGN)
        other, new = made.others[0], tree_with("new")
        thread.enter(other)
        old = thread.run(partial(mnt_id_of, "/"))
        made.swap(made.first, new)

        assert thread.run(partial(mnt_id_of, "/")) == thread.run(partial(mnt_id_of, ".")) == old
        assert thread.run(partial(os.listdir, "/")) == ["old"]
        assert old not in [mounted.mnt_id for mounted in mount_table(ns_fd=other)]
        thread.enter(other)
        assert thread.run(partial(os.listdir, "/")) == ["new"]


@pytest.mark.rule("B9", "B6")
@pytest.mark.needs("user namespace")
def test_refused_swap_changes_nothing() -> None:
    """A tree with an unbindable mount cannot go where it would have to be copied: EINVAL, and no
    namespace has changed."""
    made = make_namespaces(Caller.FOREIGN)
    namespaces = [made.first, *made.others]
    new = tree_with("new")
    put_on(new, "child", MS_UNBINDABLE)
    before = [mount_table(ns_fd=fd) for fd in namespaces]

    end = made.inside(made.first, lambda: outcome(attach_beneath, new, "/"))

    assert end == "EINVAL"
    assert [mount_table(ns_fd=fd) for fd in namespaces] == before
