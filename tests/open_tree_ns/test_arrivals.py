# SPDX-License-Identifier: GPL-2.0-only
"""What is mounted at the source arrives in the copy: how locked it is, and when it goes again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter, mount_points
from tests.utils.expect import fails, outcome
from tests.utils.mounts.trees import bind, propagation, readable, tmpfs, write
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    mount_setattr,
    umount2,
)


@pytest.mark.rule("G3", "K1")
@pytest.mark.needs("user namespace")
def test_only_the_root_of_what_arrives_is_free(scratch: Path) -> None:
    """A tree that arrives in a foreign caller's copy can be unmounted there as a whole; the mounts
    on it are locked to it."""
    source = propagation(tmpfs(scratch / "source"), MS_SHARED)
    tree = tmpfs(scratch / "tree", "cover-me/secret")
    tmpfs(tree / "cover-me")
    (source / "place").mkdir()

    def take_apart() -> list[str]:
        fails(errno.EINVAL, umount2, "/place/cover-me", MNT_DETACH)
        umount2("/place", MNT_DETACH)
        return mount_points()

    copied = copy_by(Caller.FOREIGN, source)
    bind(tree, source / "place", recursive=True)
    points = mount_points(copied.ns_fd)
    assert points == ["/", "/place", "/place/cover-me"]

    left = copied.inside(take_apart)

    assert left == ["/"]
    assert {m.mnt_point for m in mount_table()} >= {
        str(source / "place"),
        str(source / "place/cover-me"),
    }


@pytest.mark.rule("G3", "K2")
@pytest.mark.needs("user namespace")
def test_restrictions_of_what_arrives_are_locked(scratch: Path) -> None:
    """What arrives in a foreign caller's copy keeps its restrictions: none can be taken off inside,
    EPERM, each for itself."""
    source = propagation(tmpfs(scratch / "source"), MS_SHARED)
    (source / "place").mkdir()
    restrictions = {
        "read-only": MOUNT_ATTR_RDONLY,
        "nosuid": MOUNT_ATTR_NOSUID,
        "nodev": MOUNT_ATTR_NODEV,
        "noexec": MOUNT_ATTR_NOEXEC,
    }

    def lift() -> dict[str, str]:
        return {
            name: outcome(mount_setattr, AT_FDCWD, "/place", attr_clr=attr)
            for name, attr in restrictions.items()
        }

    copied = copy_by(Caller.FOREIGN, source)
    mount("tmpfs", source / "place", "tmpfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
    arrived = mount_table(ns_fd=copied.ns_fd)
    assert [m.mnt_point for m in arrived] == ["/", "/place"]

    found = copied.inside(lift)

    assert found == dict.fromkeys(restrictions, "EPERM")
    assert mount_table(ns_fd=copied.ns_fd) == arrived


@pytest.mark.rule("G1", "G3")
def test_unmounting_what_was_copied(caller: Caller, scratch: Path) -> None:
    """A mount on a shared one that was there before the copy, unmounted at the source, is unmounted
    in the copy too, though it be locked there; one on a private mount stays."""
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "shared"), MS_SHARED)
    tmpfs(top / "shared/child")
    tmpfs(top / "private/child")
    copied = copy_by(caller, top)

    umount2(top / "shared/child")
    umount2(top / "private/child")

    points = sorted(mount_points(copied.ns_fd))
    assert points == ["/", "/private/child", "/shared"]


@pytest.mark.rule("BK3")
@fixes.TOPMOST_NAMESPACE_FILE
@pytest.mark.upstream("overmount_ns_file.existing_mount_stays_on_top")
@pytest.mark.parametrize("files", [1, 2], ids=["one_file", "two_files"])
def test_propagated_mount_does_not_bury(files: int, scratch: Path) -> None:
    """A mount with mount namespaces' files on top of it is moved to where the copy, a slave, has
    a mount of its own: that one stays visible, on top of what was propagated."""
    top = propagation(tmpfs(scratch / "top", "file"), MS_SHARED)
    moved = write(scratch / "moved")
    bind(write(scratch / "plain"), moved)
    below = os.open(moved, os.O_PATH)
    here, fd = current_mnt_ns(), copy(top)
    newer = [copy(top) for _ in range(files)]
    for each in newer:
        mount(f"/proc/self/fd/{each}", moved, None, MS_BIND)
    enter(fd)
    mount(None, "/", None, MS_SLAVE)
    bind(write(Path("/own")), Path("/file"))
    own = mnt_id_of("/file")
    enter(here)

    attach(below, top / "file")

    assert ns_inode(str(top / "file")) == ns_inode(newer[-1])
    enter(fd)
    assert (mnt_id_of("/file"), Path("/file").read_text()) == (own, "own")
    umount2("/file", MNT_DETACH)
    assert Path("/file").read_text() == "plain"


@pytest.mark.rule("G11")
@pytest.mark.needs("user namespace")
def test_source_that_leaves_its_group(scratch: Path) -> None:
    """A foreign copy is a slave of the group, and not of the mount that was copied: when that turns
    private, mounts arrive from the peer that is left; when that does too, from the group's master;
    and when that does, none arrive."""
    master = propagation(tmpfs(scratch / "master", "a/x", "b/x", "c/x", "d/x"), MS_SHARED)
    source = bind(master, scratch / "source")
    propagation(propagation(source, MS_SLAVE), MS_SHARED)
    peer = bind(source, scratch / "peer")
    copied = copy_by(Caller.FOREIGN, source)
    arrived = {}

    for name, where, leaves in (
        ("a", source, None),
        ("b", peer, source),
        ("c", master, peer),
        ("d", master, master),
    ):
        if leaves:
            propagation(leaves, MS_PRIVATE)
        tmpfs(where / name)
        arrived[name] = f"/{name}" in mount_points(copied.ns_fd)

    assert arrived == {"a": True, "b": True, "c": True, "d": False}


@pytest.mark.rule("G11")
@pytest.mark.needs("user namespace")
@pytest.mark.parametrize("order", ["abc", "bca", "cab", "cba"])
def test_source_that_goes_with_its_masters(order: str, scratch: Path) -> None:
    """When the mount that was copied is unmounted together with the groups that it receives from,
    in whatever order they lie, a foreign copy receives from the first group that remains."""
    master = propagation(tmpfs(scratch / "master", "place/x"), MS_SHARED)
    tree = tmpfs(scratch / "tree", *(f"{way}{name}/x" for way in ("", "at ") for name in "abc"))
    chain = {}
    last = master
    for name in "abc":
        chain[name] = last = bind(last, tree / name)
        propagation(propagation(last, MS_SLAVE), MS_SHARED)
    for name in order:  # each comes to be the last of its parent's mounts
        mount(chain[name], tree / f"at {name}", None, MS_MOVE)
    copied = copy_by(Caller.FOREIGN, tree / "at c")

    umount2(tree, MNT_DETACH)
    tmpfs(master / "place")

    assert mount_points(copied.ns_fd) == ["/", "/place"]


@pytest.mark.rule("G12")
@pytest.mark.needs("user namespace")
def test_lazy_umount_leaves_what_is_held_in_place(scratch: Path) -> None:
    """A tree that is lazily unmounted at the source stays in a foreign copy, with its locked
    covers, as far as a mount that was made inside lies on it; another goes."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    for name in ("held", "free"):
        tree = propagation(tmpfs(top / name, "covered/secret", "place/x"), MS_SHARED)
        tmpfs(tree / "covered", "cover")
    copied = copy_by(Caller.FOREIGN, top)
    copied.inside(lambda: tmpfs(Path("/held/place"), "own"))

    for name in ("held", "free"):
        umount2(top / name, MNT_DETACH)

    assert sorted(mount_points(copied.ns_fd)) == ["/", "/held", "/held/covered", "/held/place"]
    assert copied.inside(lambda: readable("/")) == {
        "held/covered/cover": "cover",
        "held/place/own": "own",
    }


@pytest.mark.rule("G12")
@pytest.mark.parametrize("children", [1, 2], ids=["child", "stack"])
def test_what_lies_on_a_child_holds_its_parent(
    children: int, caller: Caller, scratch: Path
) -> None:
    """A mount that a slave has made on the root of a child, or on top of a stack of them, keeps
    what these lie on, and slides down to it where they go: those locked in their place stay."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    outer = propagation(tmpfs(top / "outer", "file"), MS_SHARED)
    for _ in range(children):
        propagation(tmpfs(outer / "child", "hidden"), MS_SHARED)
    copied = copy_by(caller, top)

    def cover() -> None:
        mount(None, "/", None, MS_SLAVE | MS_REC)
        tmpfs(Path("/outer/child"), "own")

    copied.inside(cover)
    before = {one.mnt_id: one.mnt_parent_id for one in mount_table(ns_fd=copied.ns_fd)}
    _, outer_id, *stack = before
    assert len(stack) == children + 1

    umount2(top / "outer", MNT_DETACH)

    left = {one.mnt_id: one.mnt_parent_id for one in mount_table(ns_fd=copied.ns_fd)}
    if caller.foreign:
        assert left == before
    else:
        assert left == {**dict(list(before.items())[:2]), stack[-1]: outer_id}
    assert copied.inside(lambda: readable("/")) == {"outer/file": "file", "outer/child/own": "own"}


@pytest.mark.rule("G1", "G3")
def test_what_is_reached_twice_goes_once(caller: Caller, scratch: Path) -> None:
    """In a tree that is lazily unmounted at the source one mount is the slave of another, so that
    what lies on the copy of the slave is reached by way of both: it goes with the tree. What is
    reached beside the tree goes as well, unless it is locked in its place."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    base = propagation(tmpfs(top / "base"), MS_SHARED)
    outer = propagation(tmpfs(top / "outer"), MS_SHARED)
    slave = propagation(bind(base, outer / "slave"), MS_SLAVE)
    propagation(slave, MS_SHARED)
    bind(base, outer / "peer")
    for name in ("one", "two"):
        tmpfs(base / name)
    copied = copy_by(caller, top)
    assert len(mount_points(copied.ns_fd)) == 11

    umount2(outer, MNT_DETACH)

    beside = ["/base/one", "/base/two"] if caller.foreign else []
    assert mount_points(copied.ns_fd) == ["/", "/base", *beside]
