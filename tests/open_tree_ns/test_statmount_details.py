# SPDX-License-Identifier: GPL-2.0-only
"""What statmount(2) tells of the copy's mounts besides their place: the same as of their sources,
from wherever it is asked; id maps as the asking user namespace counts; groups as the asker sees."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, copy_by
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import userns_fd
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    CLONE_NEWUSER,
    MOUNT_ATTR_IDMAP,
    MS_DIRSYNC,
    MS_LAZYTIME,
    MS_RDONLY,
    MS_SHARED,
    MS_SLAVE,
    MS_SYNCHRONOUS,
    Statmount,
)
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.statmount_details import Details, details
from tests.utils.uapi.syscalls import attach, mount, mount_setattr, setns

pytestmark = pytest.mark.rule("U12")


def shown(found: Details) -> tuple[str, str, tuple[str, ...], tuple[str, ...]]:
    """Return what the file system has to say: options, subtype, and both once more as lists."""
    return found.mnt_opts, found.fs_subtype, found.opt_array, found.opt_sec_array


@pytest.mark.upstream("statmount_test.statmount_mnt_opts")
def test_options_of_the_file_system(caller: Caller, scratch: Path) -> None:
    """The options of each mount's file system are those shown for its source, from outside and
    inside, as one text and as a list; a file system without a subtype has none."""
    top = tmpfs(scratch / "top")
    (top / "child").mkdir()
    mount("tmpfs", top / "child", "tmpfs", 0, "mode=751,nr_inodes=77")
    source = shown(details(mnt_id_of(top / "child")))
    copied = copy_by(caller, top)
    child = listmount(ns_fd=copied.ns_fd)[1]

    outside = details(child, ns_fd=copied.ns_fd)
    inside = copied.inside(lambda: details(child))

    assert outside == inside
    assert shown(inside) == source
    assert {"mode=751", "nr_inodes=77"} <= {*inside.opt_array}
    assert sorted(inside.opt_array) == sorted(inside.mnt_opts.split(","))
    assert not inside.mask & Statmount.STATMOUNT_FS_SUBTYPE


@pytest.mark.needs("FUSE")
def test_subtype(scratch: Path) -> None:
    """A file system that has a subtype is copied with it."""
    top = tmpfs(scratch / "top", "file")
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=100000,user_id={os.getuid()},group_id={os.getgid()}"
    mount("source", top / "file", "fuse.kind", 0, options)

    fd = copy(top, recursive=True)

    file = listmount(ns_fd=fd)[1]
    assert details(file, ns_fd=fd).fs_subtype == "kind"
    assert statmount(file, ns_fd=fd).fs_type == "fuse"


def test_nearest_group_to_receive_from(caller: Caller, scratch: Path) -> None:
    """propagate_from is the nearest group a slave receives from that has a mount in its own
    namespace, to be reached from the asker's root: an owner's copy has one of its master's, and a
    foreign caller's, where all are slaves of what is outside, has none."""
    top = tmpfs(scratch / "top")
    master = propagation(tmpfs(top / "master"), MS_SHARED)
    propagation(bind(master, top / "slave"), MS_SLAVE)
    group = statmount(mnt_id_of(master)).mnt_peer_group
    source = details(mnt_id_of(top / "slave")).propagate_from
    copied = copy_by(caller, top)

    def ask() -> dict[str, int]:
        return {path: details(mnt_id_of(path)).propagate_from for path in ("/master", "/slave")}

    def ask_from_within_the_slave() -> int:
        slave = mnt_id_of("/slave")
        os.chroot("/slave")
        return details(slave).propagate_from

    assert source == group
    nearest = 0 if caller.foreign else group
    assert copied.inside(ask) == {"/master": 0, "/slave": nearest}
    assert copied.inside(ask_from_within_the_slave) == 0


@pytest.mark.needs("root", "user namespace")
def test_id_maps_as_the_asker_counts(scratch: Path) -> None:
    """An id map, of users and of groups that differ, is copied and told in the ids of whoever asks:
    in another user namespace with its numbers, and without what has none there."""
    source = tmpfs(scratch / "source")
    tree = clone(source)
    maps = userns_fd("0 1000 10\n100 5000 5\n", "7 3000 10\n")
    mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=maps)
    top = scratch / "top"
    top.mkdir()
    attach(tree, top)
    fd = copy(top)
    (copied,) = listmount(ns_fd=fd)

    def ask() -> tuple[tuple[str, ...], tuple[str, ...]]:
        found = statmount(copied, ns_fd=fd)
        return found.uidmap, found.gidmap

    def asked_in(*maps: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        setns(userns_fd(*maps), CLONE_NEWUSER)
        return ask()

    found = {
        "here": ask(),
        "shifted": in_child(partial(asked_in, "0 1000 20\n", "50 3000 10\n")),
        "without": in_child(partial(asked_in, "0 1000 9\n", "0 0 1\n")),
    }

    assert found == {
        "here": (("0 1000 10", "100 5000 5"), ("7 3000 10",)),
        "shifted": (("0 0 10",), ("7 50 10",)),
        "without": ((), ()),
    }


@pytest.mark.upstream("statmount_test.statmount_zero_mask")
def test_nothing_asked_nothing_told(scratch: Path) -> None:
    """A request for nothing is answered with nothing, by id and by descriptor alike."""
    fd = copy(tmpfs(scratch / "top"))
    (top,) = listmount(ns_fd=fd)

    assert details(top, ns_fd=fd, mask=0) == Details(0, 0, "", "", (), (), 0)


#: What is answered of every mount that can be reached.
ANSWERED = (
    Statmount.STATMOUNT_SB_BASIC,
    Statmount.STATMOUNT_MNT_BASIC,
    Statmount.STATMOUNT_PROPAGATE_FROM,
    Statmount.STATMOUNT_MNT_ROOT,
    Statmount.STATMOUNT_MNT_POINT,
    Statmount.STATMOUNT_FS_TYPE,
    Statmount.STATMOUNT_MNT_NS_ID,
    Statmount.STATMOUNT_MNT_OPTS,
    Statmount.STATMOUNT_SB_SOURCE,
    Statmount.STATMOUNT_SUPPORTED_MASK,
)


def test_what_is_asked_is_answered(scratch: Path) -> None:
    """Each thing that is asked for alone is answered, and nothing else, and the answer says so."""
    fd = copy(tmpfs(scratch / "top"))
    (top,) = listmount(ns_fd=fd)

    found = {bit: details(top, ns_fd=fd, mask=bit).mask for bit in ANSWERED}

    assert found == {bit: bit for bit in ANSWERED}


@pytest.mark.parametrize(
    "flag",
    [0, MS_RDONLY, MS_SYNCHRONOUS, MS_DIRSYNC, MS_LAZYTIME],
    ids=["none", "ro", "sync", "dirsync", "lazytime"],
)
def test_flags_of_the_file_system(flag: int, scratch: Path) -> None:
    """The flags of a copied file system are those of its source."""
    (scratch / "top").mkdir()
    mount("tmpfs", scratch / "top", "tmpfs", flag)
    fd = copy(scratch / "top")

    assert [mounted.sb_flags for mounted in mount_table(ns_fd=fd)] == [flag]


def test_source_of_the_file_system(scratch: Path) -> None:
    """The source that a file system was mounted from is told as it was given, whatever is in it."""
    names = [
        "plain",
        "with blank",
        "tab\t",
        "line\nfeed",
        "back\\slash",
        "octal\\040",
        "hash#",
        "é",
    ]
    top = tmpfs(scratch / "top")
    for number, name in enumerate(names):
        (top / str(number)).mkdir()
        mount(name, top / str(number), "tmpfs")
    fd = copy(top, recursive=True)

    assert [mounted.sb_source for mounted in mount_table(ns_fd=fd)[1:]] == names
