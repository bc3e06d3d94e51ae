# SPDX-License-Identifier: GPL-2.0-only
"""Propagation between a copy and its source: both ways for an owner, one way for a foreign caller.

The tree of these cases has a mount of each propagation type on it. Mounts appear in up to three
places: at the ``master`` of the source, at the ``source``, and ``inside`` the new namespace.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter, mount_points
from tests.utils.expect import fails
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.copies import Copy
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.uapi.constants import (
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MountFlags,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import (
    mount,
    pivot_root,
    umount2,
)

#: Where mounts are made, for each type of source; the names are those of the directories too.
ORIGINS = {
    "private": ("source", "inside"),
    "shared": ("source", "inside"),
    "slave": ("master", "source", "inside"),
    "both": ("master", "source", "inside"),
}


def typed_tree(scratch: Path) -> Path:
    """Make a tmpfs with a mount of each propagation type on it, masters beside it.

    The type ``both`` is a slave that is shared as well. Unbindable mounts are test_copying's.
    """
    top = tmpfs(scratch / "top")
    tmpfs(top / "private")
    propagation(tmpfs(top / "shared"), MS_SHARED)
    for kind in ("slave", "both"):
        propagation(tmpfs(scratch / "master" / kind), MS_SHARED)
        propagation(bind(scratch / "master" / kind, top / kind), MS_SLAVE)
    propagation(top / "both", MS_SHARED)
    for kind, origins in ORIGINS.items():
        for origin in origins:
            (top / kind / origin).mkdir()
    return top


Facts = tuple[MountFlags, int, int]


def facts_of(mount_point: str, *, ns_fd: int = -1) -> Facts:
    """Return type, peer group and master of the topmost mount at a mount point."""
    found = [m for m in mount_table(ns_fd=ns_fd) if m.mnt_point == mount_point][-1]
    return found.mnt_propagation, found.mnt_peer_group, found.mnt_master


def expected_facts(top: Path, *, foreign: bool) -> dict[str, Facts]:
    """State the rule for the children of :func:`typed_tree`, without the model."""
    source = {kind: facts_of(str(top / kind)) for kind in ORIGINS}
    shared, slave, both = source["shared"], source["slave"], source["both"]
    assert (shared[0], slave[0], both[0]) == (MS_SHARED, MS_SLAVE, MS_SHARED | MS_SLAVE)
    assert len({shared[1], slave[2], both[1], both[2], 0}) == 5
    if foreign:
        return {
            "/private": (MS_PRIVATE, 0, 0),
            "/shared": (MS_SLAVE, 0, shared[1]),
            "/slave": slave,
            "/both": (MS_SLAVE, 0, both[1]),
        }
    return {
        "/private": (MS_PRIVATE, 0, 0),
        "/shared": shared,
        "/slave": slave,
        "/both": both,
    }


@pytest.mark.rule("G1", "G2")
def test_groups_of_children(caller: Caller, scratch: Path) -> None:
    """The owner's copies are in the peer group of their source and have its master; a foreign
    caller's copy of a shared mount is a slave of that group and not shared; a slave keeps its
    master, a private mount stays private."""
    top = typed_tree(scratch)
    facts = expected_facts(top, foreign=caller.foreign)
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    source = mount_table()
    caller.act()

    fd = copy(top, recursive=True)

    got = {
        str(m.mnt_point): (m.mnt_propagation, m.mnt_peer_group, m.mnt_master)
        for m in mount_table(ns_fd=fd)
    }
    assert got == {"/": (MS_PRIVATE, 0, 0), **facts}
    assert namespace_tree(fd).lines() == expected.lines()
    assert mount_table() == source


@pytest.mark.rule("G1", "G2")
def test_group_of_the_top(caller: Caller, scratch: Path) -> None:
    """The same holds for the top of a copy, of the whole mount and of a sub-directory."""
    top = typed_tree(scratch)
    facts = expected_facts(top, foreign=caller.foreign)
    caller.act()

    whole = {kind: copy(f"{top}{kind}") for kind in facts}
    inner = {kind: copy(f"{top}{kind}/source") for kind in facts}

    assert {kind: facts_of("/", ns_fd=fd) for kind, fd in whole.items()} == facts
    assert {kind: facts_of("/", ns_fd=fd) for kind, fd in inner.items()} == facts


Places = dict[tuple[str, str], list[str]]


class Stage:
    """The three places, and what is mounted in them."""

    def __init__(self, top: Path, copied: Copy) -> None:
        self.top, self.copy = top, copied

    def directory(self, kind: str, place: str, origin: str) -> str:
        """Return where a mount made at *origin* is seen from *place*."""
        roots = {
            "master": self.top.parent / "master" / kind,
            "source": self.top / kind,
            "inside": Path("/") / kind,
        }
        return str(roots[place] / origin)

    def mount_everywhere(self) -> None:
        """Mount something at each origin, in the directory of its name."""

        def mount_at(place: str) -> None:
            for kind, origins in ORIGINS.items():
                if place in origins:
                    mount("tmpfs", self.directory(kind, place, place), "tmpfs")

        mount_at("master")
        mount_at("source")
        self.copy.inside(lambda: mount_at("inside"))

    def unmount(self, place: str) -> None:
        """Unmount at *place* whatever is seen there."""

        def work() -> None:
            for (kind, origin), places in seen.items():
                if place in places:
                    umount2(self.directory(kind, place, origin))

        seen = self.seen()
        if place == "inside":
            self.copy.inside(work)
        else:
            work()

    def seen(self) -> Places:
        """Return, for each type and origin, the places where that mount is."""
        outside = {m.mnt_point for m in mount_table()}
        inside = {m.mnt_point for m in mount_table(ns_fd=self.copy.ns_fd)}
        return {
            (kind, origin): [
                place
                for place in origins
                if self.directory(kind, place, origin) in (inside if place == "inside" else outside)
            ]
            for kind, origins in ORIGINS.items()
            for origin in origins
        }


#: Where a mount goes that is made at (type of source, origin).
TO_ALL = ["master", "source", "inside"]
TO_BOTH = ["source", "inside"]
FLOW: dict[Caller, Places] = {
    Caller.OWNER: {
        ("private", "source"): ["source"],
        ("private", "inside"): ["inside"],
        ("shared", "source"): TO_BOTH,
        ("shared", "inside"): TO_BOTH,
        ("slave", "master"): TO_ALL,
        ("slave", "source"): ["source"],
        ("slave", "inside"): ["inside"],
        ("both", "master"): TO_ALL,
        ("both", "source"): TO_BOTH,
        ("both", "inside"): TO_BOTH,
    },
    Caller.FOREIGN: {
        ("private", "source"): ["source"],
        ("private", "inside"): ["inside"],
        ("shared", "source"): TO_BOTH,
        ("shared", "inside"): ["inside"],
        ("slave", "master"): TO_ALL,
        ("slave", "source"): ["source"],
        ("slave", "inside"): ["inside"],
        ("both", "master"): TO_ALL,
        ("both", "source"): TO_BOTH,
        ("both", "inside"): ["inside"],
    },
}
NOWHERE: Places = {key: [] for key in FLOW[Caller.OWNER]}


@pytest.mark.rule("G1", "G3")
def test_mounts_and_unmounts_flow(caller: Caller, scratch: Path) -> None:
    """What is mounted at a master, at the source or inside appears where the type says: for an
    owner both ways, for a foreign caller inside only and never back; unmounted where it was made,
    it is gone everywhere."""
    top = typed_tree(scratch)
    copied = copy_by(caller, top)
    stage = Stage(top, copied)
    before = mount_table(), mount_table(ns_fd=copied.ns_fd)

    stage.mount_everywhere()
    assert stage.seen() == FLOW[caller]

    for place in TO_ALL:
        stage.unmount(place)
    assert stage.seen() == NOWHERE
    assert (mount_table(), mount_table(ns_fd=copied.ns_fd)) == before


@pytest.mark.rule("G1", "G3")
def test_unmounting_inside(caller: Caller, scratch: Path) -> None:
    """What has come from outside may be unmounted inside. In an owner's copy that unmounts it at
    the source's peers as well; in a foreign caller's copy it stays everywhere else."""
    top = typed_tree(scratch)
    copied = copy_by(caller, top)
    stage = Stage(top, copied)
    stage.mount_everywhere()

    stage.unmount("inside")

    left = {
        key: [place for place in places if place != "inside"]
        for key, places in FLOW[caller].items()
    }
    if caller is Caller.OWNER:
        left[("shared", "source")] = []
        left[("shared", "inside")] = []
        left[("both", "master")] = ["master"]
        left[("both", "source")] = []
        left[("both", "inside")] = []
    assert stage.seen() == left


@pytest.mark.rule("G1", "G2")
def test_two_copies_of_one_source(caller: Caller, scratch: Path) -> None:
    """An owner's two copies of a shared mount are peers of the source and of each other; a foreign
    caller's are slaves of the source, and see nothing of one another."""
    source = propagation(tmpfs(scratch / "source"), MS_SHARED)
    for name in ("source", "one", "two"):
        (source / name).mkdir()

    one, two = copy_by(caller, source), copy_by(caller, source)
    copies = {"one": one, "two": two}
    mount("tmpfs", source / "source", "tmpfs")
    for name, copied in copies.items():
        copied.inside(partial(mount, "tmpfs", f"/{name}", "tmpfs"))
    prefix = str(source)
    points = mount_points()
    seen = {"source": sorted(p[len(prefix) :] for p in points if p.startswith(f"{prefix}/"))}
    for name, copied in copies.items():
        points = mount_points(copied.ns_fd)
        seen[name] = sorted(point for point in points if point != "/")

    everything = ["/one", "/source", "/two"]
    if caller.foreign:
        assert seen == {
            "source": ["/source"],
            "one": ["/one", "/source"],
            "two": ["/source", "/two"],
        }
    else:
        assert seen == {"source": everything, "one": everything, "two": everything}


@pytest.mark.rule("G6")
def test_pivot_root_needs_a_private_root(scratch: Path) -> None:
    """In an owner's copy of a shared mount pivot_root(2) is EINVAL until the root is private; then
    it works, and the source keeps its mounts."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "new", "new.txt")
    (top / "new/old").mkdir()
    propagation(top, MS_SHARED, recursive=True)
    source = mount_table()
    here = current_mnt_ns()
    enter(copy(top, recursive=True))

    fails(errno.EINVAL, pivot_root, "/new", "/new/old")
    mount(None, "/", None, MS_PRIVATE)
    fails(errno.EINVAL, pivot_root, "/new", "/new/old")
    mount(None, "/new", None, MS_PRIVATE)
    pivot_root("/new", "/new/old")

    assert sorted(os.listdir("/")) == ["new.txt", "old"]
    assert sorted(mount_points()) == ["/", "/old"]
    enter(here)
    assert mount_table() == source
