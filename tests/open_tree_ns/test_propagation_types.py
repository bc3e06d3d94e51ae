# SPDX-License-Identifier: GPL-2.0-only
"""Who may change the propagation of a copy's mounts, and to what: inside, on locked mounts, from
outside, and by joining groups (MOVE_MOUNT_SET_GROUP)."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter, mount_points, set_group
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    CLONE_NEWNS,
    MNT_DETACH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    PROPAGATION_TYPES,
)
from tests.utils.uapi.statmount import Mount, mnt_id_of, statmount, statmount_by_fd
from tests.utils.uapi.syscalls import mount, umount2, unshare

T = TypeVar("T")


def opened(path: str | Path) -> int:
    """Return a descriptor on the mount at *path*."""
    return os.open(path, os.O_PATH)


def change(fd: int, kind: int) -> None:
    """Change the propagation type of the mount that *fd* is open on."""
    mount(None, f"/proc/self/fd/{fd}", None, kind)


def from_below(function: Callable[[], T]) -> T:
    """Return what *function* returns for a caller without privilege over the case's user namespace,
    in a mount namespace which it owns (in a child)."""

    def run() -> T:
        become_foreign()
        unshare(CLONE_NEWNS)
        return function()

    return in_child(run)


@pytest.mark.rule("G8")
def test_types_of_locked_mounts(caller: Caller, scratch: Path) -> None:
    """Inside, the propagation of each mount may be changed, locked or not, to every type, alone or
    with all below it: a lock is no lock of the type."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "child")
    caller.act()
    enter(copy(top, recursive=True))

    got = {
        (name, path, rec): outcome(mount, None, path, None, kind | rec)
        for name, kind in PROPAGATION_TYPES.items()
        for path in ("/", "/child")
        for rec in (0, MS_REC)
    }

    assert got == dict.fromkeys(got, "success")


def as_made(kind: int, was: int, peers: bool) -> int:
    """Return what a mount is that *was* of some types when it is made one of *kind*; *peers* says
    whether there are others in its group."""
    if kind == MS_SHARED:
        return was & MS_SLAVE | MS_SHARED
    if kind != MS_SLAVE:
        return kind & MS_UNBINDABLE
    return was & ~MS_SHARED | (MS_SLAVE if was & MS_SHARED and peers else 0)


def types_of(flags: int) -> str:
    """Return the names of propagation types, as statmount(2) tells them."""
    return (
        " and ".join(name for name, kind in PROPAGATION_TYPES.items() if flags & kind) or "private"
    )


@pytest.mark.rule("G8")
def test_each_type_replaces_the_one_before(caller: Caller, scratch: Path) -> None:
    """A slave that is made shared is both, and neither once it is private or unbindable; what is
    made a slave is one when it was, or had peers, and private otherwise."""
    top = propagation(tmpfs(scratch / "top", "place/file"), MS_SHARED)
    copied = copy_by(caller, top)
    at_first = MS_SLAVE if caller.foreign else MS_SHARED
    twice = list(itertools.product(PROPAGATION_TYPES, repeat=2))

    def made() -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for kinds in twice:
            place = bind(Path("/"), Path("/place"))
            seen = found.setdefault(" then ".join(kinds), [])
            for kind in kinds:
                propagation(place, PROPAGATION_TYPES[kind])
                seen.append(types_of(statmount(mnt_id_of(place)).mnt_propagation))
            umount2(place, MNT_DETACH)
        return found

    expected = {}
    for first, second in twice:
        once = as_made(PROPAGATION_TYPES[first], at_first, peers=True)
        again = as_made(PROPAGATION_TYPES[second], once, peers=once == at_first == MS_SHARED)
        expected[f"{first} then {second}"] = [types_of(once), types_of(again)]
    assert copied.inside(made) == expected


@pytest.mark.rule("G15")
def test_group_ids_are_given_out_again(caller: Caller, scratch: Path) -> None:
    """Of groups one after the other, each with one mount that is unmounted or made private, not
    each has an id that none had before."""
    top = tmpfs(scratch / "top", "place/file")
    caller.act()
    enter(copy(top))
    ends: dict[str, Callable[[Path], object]] = {
        "unmounted": umount2,
        "made private": lambda place: propagation(place, MS_PRIVATE),
    }

    ids: dict[str, list[int]] = {end: [] for end in ends}
    for end in [*ends] * 20:
        place = propagation(tmpfs(Path("/place")), MS_SHARED)
        ids[end].append(statmount(mnt_id_of(place)).mnt_peer_group)
        ends[end](place)

    # Others may have taken one for a group of theirs.
    assert {end: len(set(of)) < len(of) for end, of in ids.items()} == dict.fromkeys(ends, True)


@pytest.mark.rule("G9")
@pytest.mark.needs("user namespace")
def test_types_from_outside(caller: Caller, scratch: Path) -> None:
    """From outside the type is changed through a descriptor by whoever has CAP_SYS_ADMIN over the
    owner of the namespace: its own owner's, or one above. For others it is EPERM."""
    copied = copy_by(caller, tmpfs(scratch / "top"))
    inside = copied.opened_inside(partial(opened, "/"))

    def tried(fd: int) -> dict[str, Outcome]:
        return {name: outcome(change, fd, kind) for name, kind in PROPAGATION_TYPES.items()}

    below = from_below(lambda: tried(inside))
    above = tried(inside)

    assert below == dict.fromkeys(PROPAGATION_TYPES, "EPERM")
    assert above == dict.fromkeys(PROPAGATION_TYPES, "success")


def group_of(mount: Mount) -> tuple[int, int, int]:
    """Return the type, the peer group and the master of *mount*."""
    return mount.mnt_propagation, mount.mnt_peer_group, mount.mnt_master


def tree_with_binds(scratch: Path) -> Path:
    """Make a shared mount with two binds of a directory of its own: "free", private, and
    "unbindable"."""
    top = propagation(tmpfs(scratch / "top", "dir/file"), MS_SHARED)
    for name, kind in (("free", MS_PRIVATE), ("unbindable", MS_UNBINDABLE)):
        propagation(bind(top / "dir", top / name), kind)
    return top


@pytest.mark.rule("G9")
@pytest.mark.needs("user namespace", "STATMOUNT_BY_FD")
@pytest.mark.upstream("move_mount_set_group.complex_sharing_copying")
def test_groups_are_joined_from_outside(caller: Caller, scratch: Path) -> None:
    """MOVE_MOUNT_SET_GROUP makes a private mount of the copy a peer of the source's, across
    namespaces, for whoever has CAP_SYS_ADMIN over the owners of both: EPERM for others. What is
    mounted on the one then arrives on the other."""
    top = tree_with_binds(scratch)
    copied = copy_by(caller, top)
    source, target = opened(top), copied.opened_inside(partial(opened, "/free"))

    below = from_below(lambda: outcome(set_group, source, target))
    assert below == "EPERM"
    set_group(source, target)
    tmpfs(top / "dir/place")

    assert group_of(statmount_by_fd(target)) == group_of(statmount_by_fd(source))
    assert "/free/place" in mount_points(copied.ns_fd)


@pytest.mark.rule("G14")
@pytest.mark.needs("user namespace")
@pytest.mark.parametrize("shared", [False, True], ids=["slave", "shared_slave"])
def test_group_of_a_slave(shared: bool, scratch: Path) -> None:
    """In a foreign copy a private mount that joins the group of a slave receives from the same
    master, and is the slave's peer where that is shared. What is mounted at the source arrives."""
    top = tree_with_binds(scratch)
    master = statmount(mnt_id_of(top)).mnt_peer_group
    copied = copy_by(Caller.FOREIGN, top)

    def inside() -> list[Mount]:
        if shared:
            propagation(Path("/"), MS_SHARED)
        set_group(opened("/"), opened("/free"))
        return [statmount(mnt_id_of(path)) for path in ("/", "/free")]

    slave, joined = copied.inside(inside)
    tmpfs(top / "dir/place")

    assert group_of(joined) == group_of(slave)
    assert (slave.mnt_peer_group != 0, slave.mnt_master) == (shared, master)
    assert {"/dir/place", "/free/place"} <= {*mount_points(copied.ns_fd)}


@pytest.mark.rule("G9")
@pytest.mark.needs("user namespace")
def test_power_over_one_of_two_joins_no_group(scratch: Path) -> None:
    """MOVE_MOUNT_SET_GROUP takes CAP_SYS_ADMIN over the owners of both namespaces: over that of the
    mount that joins, or of the one that is joined, alone is EPERM."""
    top = tree_with_binds(scratch)
    copied = copy_by(Caller.FOREIGN, top)
    shared, private = opened(top), opened(top / "free")

    def inside() -> dict[str, Outcome]:
        propagation(Path("/"), MS_SHARED)
        return {
            "its own joins": outcome(set_group, shared, opened("/free")),
            "its own is joined": outcome(set_group, opened("/"), private),
        }

    assert copied.inside(inside) == {"its own joins": "EPERM", "its own is joined": "EPERM"}


@pytest.mark.rule("G10")
@pytest.mark.needs("STATMOUNT_BY_FD")
@fixes.UNBINDABLE_GROUPS
@pytest.mark.upstream("move_mount_set_group.unbindable_target")
def test_unbindable_joins_no_group(caller: Caller, scratch: Path) -> None:
    """MOVE_MOUNT_SET_GROUP refuses a mount that is unbindable, inside the copy as from outside:
    EINVAL. It stays what it is."""
    top = tree_with_binds(scratch)
    copied = copy_by(caller, top)

    def inside() -> list[Outcome]:
        propagation(Path("/free"), MS_UNBINDABLE)
        end = outcome(set_group, opened("/"), opened("/free"))
        return [end, outcome(mount, "/free", "/dir", None, MS_BIND)]

    joined, bound = copied.inside(inside)
    target = copied.opened_inside(partial(opened, "/free"))
    got = {
        "inside": joined,
        "bind": bound,
        "from outside": outcome(set_group, opened(top), target),
        "at the source": outcome(set_group, opened(top), opened(top / "unbindable")),
    }

    assert got == dict.fromkeys(got, "EINVAL")
    assert statmount_by_fd(target).mnt_propagation == MS_UNBINDABLE


@pytest.mark.rule("G14")
def test_groups_that_cannot_be_joined(caller: Caller, scratch: Path) -> None:
    """MOVE_MOUNT_SET_GROUP refuses inside what it refuses everywhere: directories that are no
    mounts, another file system, a wider mount for a narrower one's group, a mount that is in a
    group, the group of one that is in none; and, for a foreign caller, to join where a locked mount
    covers something of the other: EINVAL."""
    top = propagation(tmpfs(scratch / "top", "dir/sub/file", "place/covered/file"), MS_SHARED)
    for name, of, kind in (
        ("private", "dir", MS_PRIVATE),
        ("alone", "dir", MS_PRIVATE),
        ("slave", "dir", MS_SLAVE),
        ("shared", "dir", MS_SHARED),
        ("narrow", "dir/sub", MS_SHARED),
        ("uncovered", "place", MS_PRIVATE),
    ):
        propagation(bind(top / of, top / name), kind)
    tmpfs(top / "other")
    propagation(top / "other", MS_PRIVATE)
    tmpfs(top / "place/covered")
    copied = copy_by(caller, top)
    pairs = {
        "group of a directory": ("/dir", "/private"),
        "directory": ("/", "/private/sub"),
        "another file system": ("/", "/other"),
        "narrower": ("/narrow", "/private"),
        "shared": ("/", "/shared"),
        "slave": ("/", "/slave"),
        "group of none": ("/alone", "/private"),
        "what is covered": ("/", "/uncovered"),
        "wider": ("/", "/private"),
    }

    def tried() -> dict[str, Outcome]:
        return {
            name: outcome(set_group, opened(group_of), opened(target))
            for name, (group_of, target) in pairs.items()
        }

    expected = dict.fromkeys(pairs, "EINVAL") | {"wider": "success"}
    if not caller.foreign:
        expected["what is covered"] = "success"
    assert copied.inside(tried) == expected
