# SPDX-License-Identifier: GPL-2.0-only
"""MOVE_MOUNT_BENEATH on shared mounts, at the root of a chroot, and at the limit of mounts."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.beneath import ends_of, move_beneath, open_mount
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter, mount_points
from tests.open_tree_ns.trees import nested_tree
from tests.utils.expect import outcome
from tests.utils.mounts.limits import mount_max
from tests.utils.mounts.trees import bind, fresh_tmpfs, propagation, tmpfs
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    MNT_DETACH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import attach, mount, mount_setattr, umount2

pytestmark = pytest.mark.needs("MOVE_MOUNT_BENEATH on the root")


@pytest.mark.rule("B6")
def test_arrives_beneath_at_peers_and_slaves(scratch: Path) -> None:
    """On a shared mount what is moved beneath comes to lie beneath in the same place of every peer
    and slave, in this namespace and in others; a copy for each."""
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "one"), MS_SHARED)
    bind(top / "one", top / "peer")
    propagation(bind(top / "one", top / "slave"), MS_SLAVE)
    tmpfs(top / "one/place", "over.txt")
    fd = copy(top, recursive=True)
    places = ["/one/place", "/peer/place", "/slave/place"]
    tree = fresh_tmpfs()

    def counts() -> list[int]:
        return [mount_points(fd).count(place) for place in places] + [
            [mount.mnt_point for mount in mount_table()].count(f"{top}{place}") for place in places
        ]

    before = counts()
    attach_beneath(tree, top / "one/place")
    after = counts()
    shown = [os.listdir(f"{top}{place}") for place in places]
    umount2(top / "one/place")

    assert (before, after) == ([1] * 6, [2] * 6)
    assert shown == [["over.txt"]] * 3
    assert counts() == [1] * 6
    assert [os.listdir(f"{top}{place}") for place in places] == [[]] * 3
    assert len({mnt_id_of(f"{top}{place}") for place in places}) == 3


@pytest.mark.rule("B6")
def test_refused_where_it_would_cover(scratch: Path) -> None:
    """Where a copy would arrive on the mount it is moved beneath, or on the mount that is moved
    itself, since those receive from the parent: EINVAL."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    for name in ("self", "place"):
        (top / name).mkdir()
    enter(copy(top, recursive=True))
    bind(Path("/self"), Path("/self"))
    place = open_mount("/place")
    tmpfs(Path("/place"))
    (tmpfs(Path("/beside")) / "source").mkdir()
    # Of the directory below the mount: a peer of what that lies on.
    attach(clone("", dirfd=place), "/beside/source")
    calls = {
        "on what it is moved beneath": partial(attach_beneath, fresh_tmpfs(), "/self"),
        "on what is moved": partial(move_beneath, "/beside/source", "/place"),
    }

    found = ends_of(calls)
    for mounted in ("/self", "/beside/source"):
        mount(None, mounted, None, MS_PRIVATE)
    without = {name: outcome(call) for name, call in calls.items()}

    assert found == dict.fromkeys(calls, "EINVAL")
    assert without == dict.fromkeys(calls, "success")


@pytest.mark.rule("B6")
def test_peer_of_the_parent_that_shows_another_directory(scratch: Path) -> None:
    """A mount that receives from its parent has something put beneath it as long as it shows
    another directory than the one it is mounted on: nothing would arrive on it."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    for name in ("dir", "place"):
        (top / name).mkdir()
    enter(copy(top, recursive=True))
    over, tree = mnt_id_of(bind(Path("/dir"), Path("/place"))), fresh_tmpfs()

    attach_beneath(tree, "/place")

    assert mnt_id_of("/place") == over
    assert statmount(over).mnt_parent_id == mnt_id_of(tree)


@pytest.mark.rule("B6")
def test_detached_peer_of_the_parent(scratch: Path) -> None:
    """Nothing arrives in a detached tree: a copy of the very directory that is mounted on goes
    beneath the mount there, a peer of what that lies on though it is."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    (top / "place").mkdir()
    enter(copy(top, recursive=True))
    detached = clone("/place")
    over = mnt_id_of(tmpfs(Path("/place")))

    attach_beneath(detached, "/place")

    assert mnt_id_of("/place") == over
    assert statmount(over).mnt_parent_id == mnt_id_of(detached)
    group = statmount(mnt_id_of("/")).mnt_peer_group
    assert statmount(mnt_id_of(detached)).mnt_peer_group == group != 0


@pytest.mark.rule("B6")
def test_unbindable_source(scratch: Path) -> None:
    """A tree with an unbindable mount goes beneath where nothing is to be copied, and keeps its
    type; on a shared mount it is EINVAL."""
    enter(copy(nested_tree(scratch), recursive=True))
    mount(None, "/b", None, MS_SHARED)
    tmpfs(Path("/b/place"))
    trees = [fresh_tmpfs(), fresh_tmpfs()]
    for tree in trees:
        mount_setattr(tree, "", AT_EMPTY_PATH, propagation=MS_UNBINDABLE)

    found = ends_of({"shared": partial(attach_beneath, trees[0], "/b/place")})
    attach_beneath(trees[1], "/a")

    assert found == {"shared": "EINVAL"}
    assert statmount(mnt_id_of(trees[1])).mnt_propagation == MS_UNBINDABLE


@pytest.mark.rule("B7")
@pytest.mark.upstream("move_mount.beneath_rootfs_in_chroot_success")
def test_chroot_onto_a_mount(caller: Caller, scratch: Path) -> None:
    """For who is chrooted onto the root of a mount "/" names that mount, and its place: the new one
    goes beneath, and can be stepped onto."""
    top = nested_tree(scratch)
    caller.act()
    enter(copy(top, recursive=True))
    outside = open_mount("/")
    os.chroot("/b")
    os.chdir("/")
    old, new = mnt_id_of("/"), fresh_tmpfs()

    attach_beneath(new, "/")
    assert mnt_id_of("/") == old
    os.fchdir(new)
    os.chroot(".")
    umount2(".", MNT_DETACH)

    assert mnt_id_of("/") == mnt_id_of(new)
    os.fchdir(outside)
    os.chroot(".")
    assert mnt_id_of("/b") == mnt_id_of(new)


@pytest.mark.rule("B8")
# fs.mount-max is the machine's, and is lowered.
@pytest.mark.needs("root", "expendable kernel", "sysctl")
@pytest.mark.room(mounts=1200)
def test_mount_max_counts(scratch: Path) -> None:
    """What is put beneath counts against fs.mount-max as what is put on top does: ENOSPC, and
    nothing has changed; what is only moved within the namespace does not."""
    limit = 1000  # above what cases that run at the same time have mounted
    top = tmpfs(scratch / "top")
    with mount_max() as set_mount_max:
        for number in range(10):
            bind(top, top / str(number), recursive=True)
        enter(copy(top, recursive=True))
        tree = clone("/8", recursive=True)
        set_mount_max(limit)
        before = len(listmount())
        found: dict[str, object] = {
            "beneath": outcome(attach_beneath, tree, "/7"),
            "left": len(listmount()) - before,
            "moved": outcome(move_beneath, "/0", "/1"),
        }
        umount2("/9", MNT_DETACH)
        found["with room"] = outcome(attach_beneath, tree, "/7")

    assert found == {"beneath": "ENOSPC", "left": 0, "moved": "success", "with room": "success"}
