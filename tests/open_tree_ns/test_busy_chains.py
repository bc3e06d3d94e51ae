# SPDX-License-Identifier: GPL-2.0-only
"""What one umount(2) takes along, where mounts that receive lie one on the other.

A mount goes wherever the one it lies on propagates to. Where that is a file system bound on a
directory of itself, again and again, the mounts at the same place of each make a chain: some of
them go, and some are held by what lies on them.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, set_group
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import MS_BIND, MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import mount, umount2

#: The deepest place at which a mount is looked for.
DEEPEST = 5


def place(root: Path, depth: int) -> Path:
    """Return the path of "on" in "on" in *root*, *depth* times."""
    return root.joinpath(*["on"] * depth)


class Step(NamedTuple):
    """A step that makes a tree."""

    #: At the source, or in the copy, which is a slave.
    where: Literal["source", "inside"]
    #: A bind of the root, or of a private bind of it ("stranger"); a new file system, at the place
    #: itself or on a directory beside ("fresh", "beside"); or a change of the group.
    what: Literal["bind", "stranger", "fresh", "beside", "private", "shared", "join"]
    depth: int

    def take(self, root: Path) -> None:
        """Take the step below *root*."""
        at = place(root, self.depth)
        match self.what:
            case "bind":
                mount(root, at, None, MS_BIND)
            case "stranger":
                private = root.with_name("private")
                private.mkdir()
                mount(root, private, None, MS_BIND)
                mount(propagation(private, MS_PRIVATE), at, None, MS_BIND)
            case "fresh":
                tmpfs(at, "on/file", "beside/file")
            case "beside":
                tmpfs(at / "beside")
            case "private":
                propagation(at, MS_PRIVATE)
            case "shared":
                propagation(at, MS_SHARED)
            case "join":
                fds = os.open(root, os.O_PATH), os.open(at, os.O_PATH)
                set_group(*fds)
                for fd in fds:
                    os.close(fd)


source, inside = partial(Step, "source"), partial(Step, "inside")


class Tree(NamedTuple):
    """How a tree is made, and the place of what is unmounted at the source."""

    steps: tuple[Step, ...]
    victim: int


#: One that arrives, and three that are bound on it inside: each receives what the first does.
CHAIN = (source("bind", 1), *(inside("bind", depth) for depth in (2, 3, 4)))
#: The same at the source, joined to one group when it lies there.
PEERS = (
    source("private", 0),
    *(source("bind", depth) for depth in (1, 2, 3)),
    source("shared", 0),
    *(source("join", depth) for depth in (1, 2)),
)
TREES = {
    # Something lies beside the next one on the second, or on the third: what is above stays.
    "held_above": Tree((*CHAIN, inside("beside", 2)), 1),
    "held_below": Tree((*CHAIN, inside("beside", 3)), 1),
    # A file system that does not receive is the last.
    "ends_in_another": Tree((source("bind", 1), inside("bind", 2), inside("fresh", 3)), 1),
    # What arrives goes beneath what lies there, and a second chain begins on that.
    "passed_by": Tree(
        (
            inside("bind", 1),
            source("bind", 1),
            inside("bind", 3),
            inside("bind", 3),
            inside("beside", 3),
        ),
        1,
    ),
    # What arrives does not receive itself: what is bound on it inside is of no chain.
    "stranger": Tree((source("stranger", 1), inside("bind", 2)), 1),
    # The victim lies on mounts that would go with it.
    "on_its_peers": Tree(PEERS, 3),
    # All of them lie on the root of the one before.
    "stack": Tree(
        (source("bind", 0), inside("bind", 0), inside("bind", 0), inside("beside", 0)), 0
    ),
}


class Made:
    """A tree that was made, and a descriptor on each of its mounts but what cannot be reached."""

    def __init__(self, tree: Tree, folder: Path, thread: NamespaceThread) -> None:
        """Make *tree* in *folder*, with a task that may go inside."""
        top = propagation(tmpfs(folder / "top", "on/file", "beside/file"), MS_SHARED)
        self._ns_fd = copy(top, recursive=True)
        self._victim = place(top, tree.victim)
        self.used: dict[int, int] = {}
        enter = partial(thread.call_in, self._ns_fd)
        enter(lambda: mount(None, "/", None, MS_SLAVE | MS_REC))
        for step in tree.steps:
            if step.where == "inside":
                enter(partial(step.take, Path("/")))
            else:
                step.take(top)
            for fd in (*enter(partial(self._open, Path("/"))), *self._open(top)):
                if self.used.setdefault(mnt_id_of(fd), fd) != fd:
                    os.close(fd)

    @staticmethod
    def _open(root: Path) -> list[int]:
        paths = [place(root, depth) for depth in range(DEEPEST)]
        return [os.open(path, os.O_PATH) for path in paths if path.exists()]

    def use(self, number: int | None) -> None:
        """Close all descriptors but that on the mount of this *number*, counted as they came."""
        for count, fd in enumerate(self.used.values()):
            if count != number:
                os.close(fd)

    def unmount(self) -> Outcome:
        """Unmount the victim."""
        return outcome(umount2, self._victim)

    def gone(self) -> set[int]:
        """Return which of the mounts are in no table any more."""
        tables = (*mount_table(), *mount_table(ns_fd=self._ns_fd))
        there = {mounted.mnt_id for mounted in tables}
        return {number for number, mnt_id in enumerate(self.used) if mnt_id not in there}


@pytest.mark.rule("G7")
@fixes.BUSY_COPIES
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_what_goes_along_is_busy_when_it_is_used(tree: Tree, scratch: Path) -> None:
    """A plain umount(2) is EBUSY exactly when one of those mounts is in use, at the source or in
    the copy, that it takes along when none is."""
    with NamespaceThread() as thread:
        unused = Made(tree, scratch / "unused", thread)
        unused.use(None)
        end, goes = unused.unmount(), unused.gone()
        found = {}
        for number in range(len(unused.used)):
            made = Made(tree, scratch / str(number), thread)
            made.use(number)
            found[number] = made.unmount()

    assert end == "success"
    assert found == {number: "EBUSY" if number in goes else "success" for number in found}
