# SPDX-License-Identifier: GPL-2.0-only
"""The two layers of a new namespace: the copy on top, and the hidden empty base below it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.open_tree_ns.trees import nested_tree
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.trees import tmpfs
from tests.utils.uapi.caps import effective
from tests.utils.uapi.constants import (
    CLONE_NEWUSER,
    FSCONFIG_CMD_CREATE,
    FSMOUNT_CLOEXEC,
    FSMOUNT_NAMESPACE,
    MS_BIND,
    MS_NOATIME,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REMOUNT,
    MS_SHARED,
    NULL_FS_MAGIC,
)
from tests.utils.uapi.mountinfo import line_of, mountinfo, open_proc
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info, ns_id
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    fsconfig,
    fsmount,
    fsopen,
    mount,
    unshare,
)


def stacked_tree(scratch: Path) -> tuple[int, Path]:
    """Put two mounts on one place, each with a mount on it.

    Return a descriptor of the buried one, and the place.
    """
    top = tmpfs(scratch / "top", "lower.txt")
    tmpfs(top / "below", "below.txt")
    buried = os.open(top, os.O_PATH | os.O_DIRECTORY)
    tmpfs(top, "upper.txt")
    tmpfs(top / "above", "above.txt")
    return buried, top


@pytest.mark.rule("Y1", "Y6")
def test_base_is_private_nullfs(caller: Caller, scratch: Path) -> None:
    """The base is one private mount of nullfs, its own parent, of the whole file system, without
    a mount point; and so is the base of a namespace made inside the first one."""
    top = nested_tree(scratch)
    caller.act()

    first = copy(top, recursive=True)
    enter(first)
    second = copy("/", recursive=True)

    for fd in (first, second):
        base = base_of(fd)
        assert (base.fs_type, base.sb_magic, base.mnt_root) == ("nullfs", NULL_FS_MAGIC, "/")
        assert base.mnt_point is None
        assert base.mnt_parent_id == base.mnt_id
        assert (base.mnt_propagation, base.mnt_peer_group, base.mnt_master) == (MS_PRIVATE, 0, 0)
        assert base.mnt_ns_id == ns_id(fd)
    assert base_of(first).mnt_id != base_of(second).mnt_id


@pytest.mark.rule("Y2")
def test_ids_ascend_from_the_base(caller: Caller, scratch: Path) -> None:
    """The top lies on "/" of the base; each mount is younger than the one it lies on."""
    top = nested_tree(scratch)
    caller.act()

    fd = copy(top, recursive=True)

    base = base_of(fd)
    mounts = mount_table(ns_fd=fd)
    assert (mounts[0].mnt_point, mounts[0].mnt_parent_id) == ("/", base.mnt_id)
    assert mounts[0].mnt_id > base.mnt_id
    points = {mount.mnt_id: mount.mnt_point for mount in mounts}
    parents = {mount.mnt_point: points.get(mount.mnt_parent_id) for mount in mounts}
    assert parents == {"/": None, "/a": "/", "/a/inner": "/a", "/b": "/"}
    assert [m.mnt_point for m in mounts if m.mnt_parent_id >= m.mnt_id] == []


@pytest.mark.rule("Y3")
@pytest.mark.upstream("statmount_test.listmount_empty_root")
def test_base_is_in_no_list(caller: Caller, scratch: Path) -> None:
    """From outside and from inside the base is neither listed nor counted nor in mountinfo, where
    its id is but the parent of the root; asked for by id it is there, and lists what lies on it."""
    top = nested_tree(scratch)
    proc = open_proc()
    caller.act()
    fd = copy(top, recursive=True)
    base = base_of(fd)

    outside = listmount(ns_fd=fd)
    below_base = listmount(base.mnt_id, ns_fd=fd)
    enter(fd)
    inside = listmount()
    lines = mountinfo(proc)

    assert outside == below_base == inside == listmount(base.mnt_id)
    assert len(outside) == mnt_get_info(fd).nr_mounts == 4
    assert base.mnt_id not in outside
    assert statmount(base.mnt_id) == base
    assert base.mnt_id_old not in {line.mnt_id for line in lines}
    assert {line.parent_id for line in lines} - {line.mnt_id for line in lines} == {base.mnt_id_old}


@pytest.mark.rule("Y3")
@pytest.mark.needs("user namespace")
def test_base_is_denied_to_the_unprivileged(scratch: Path) -> None:
    """Inside, a caller without CAP_SYS_ADMIN over the owner gets EPERM for the base, and the
    mounts above it all the same."""
    fd = copy(nested_tree(scratch), recursive=True)
    base = base_of(fd).mnt_id
    enter(fd)
    before = mount_table()

    unshare(CLONE_NEWUSER)

    fails(errno.EPERM, statmount, base)
    fails(errno.EPERM, listmount, base)
    assert mount_table() == before


@pytest.mark.rule("Y3")
@fixes.MOUNTINFO_ITERATION
@pytest.mark.upstream("statmount_test.statmount_mnt_basic")
@pytest.mark.upstream("statmount_test.statmount_sb_basic")
@pytest.mark.upstream("statmount_test.statmount_mnt_point")
@pytest.mark.upstream("statmount_test.statmount_mnt_root")
@pytest.mark.upstream("statmount_test.statmount_fs_type")
def test_mountinfo_tells_what_statmount_tells(caller: Caller, scratch: Path) -> None:
    """Inside, mountinfo has a line for each listed mount, with the same facts as statmount(2)."""
    top = nested_tree(scratch)
    mount(None, top / "a", None, MS_SHARED)
    strict = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME
    mount(None, top / "b", None, MS_REMOUNT | MS_BIND | strict)
    # Else the mount that /a is a peer or slave of goes, and when is for others to say.
    proc, _stay = open_proc(), current_mnt_ns()
    caller.act()

    enter(copy(top, recursive=True))

    lines = {line.mnt_id: line for line in mountinfo(proc)}
    assert lines == {mount.mnt_id_old: line_of(mount) for mount in mount_table()}
    assert len(lines) == 4


@pytest.mark.rule("Y4")
@pytest.mark.upstream("statmount_test.listmount_tree")
@pytest.mark.upstream("listmount_test.listmount_forward")
@pytest.mark.upstream("listmount_test.listmount_backward")
def test_list_below_a_mount(scratch: Path) -> None:
    """listmount(2) of a mount gives all that lies on it and not itself; LISTMOUNT_REVERSE gives
    each list in exactly the opposite order; and so from inside."""
    fd = copy(nested_tree(scratch), recursive=True)
    ids = {mount.mnt_point: mount.mnt_id for mount in mount_table(ns_fd=fd)}
    expected = {
        "/": [ids["/a"], ids["/a/inner"], ids["/b"]],
        "/a": [ids["/a/inner"]],
        "/a/inner": [],
        "/b": [],
    }
    expected = {point: sorted(below) for point, below in expected.items()}
    backwards = {point: below[::-1] for point, below in expected.items()}

    assert {p: listmount(i, ns_fd=fd) for p, i in ids.items()} == expected
    assert {p: listmount(i, ns_fd=fd, reverse=True) for p, i in ids.items()} == backwards
    assert listmount(ns_fd=fd, reverse=True) == listmount(ns_fd=fd)[::-1]
    enter(fd)
    assert {p: listmount(i) for p, i in ids.items()} == expected
    assert {p: listmount(i, reverse=True) for p, i in ids.items()} == backwards


@pytest.mark.rule("Y5", "C6")
def test_stacked_root_from_outside_and_inside(caller: Caller, scratch: Path) -> None:
    """Of a stack copied by a descriptor of the buried mount, outside sees all, buried ones too;
    inside sees the topmost mount on "/" and what lies on it."""
    buried, _ = stacked_tree(scratch)
    expected = predict_copy(buried, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy("", dirfd=buried, recursive=True)

    assert namespace_tree(fd).lines() == expected.lines()
    outside = listmount(ns_fd=fd)
    enter(fd)
    inside = listmount()
    assert namespace_tree().lines() == expected.visible().lines()
    assert (len(outside), len(inside), mnt_get_info(fd).nr_mounts) == (4, 2, 4)
    assert mnt_id_of("/") == inside[0] != outside[0]
    assert sorted(os.listdir("/")) == ["above", "upper.txt"]
    assert os.listdir("/above") == ["above.txt"]


@pytest.mark.rule("Y5")
def test_list_below_a_chroot(scratch: Path) -> None:
    """Who is chrooted to a directory inside is listed what is mounted below it, by its path from
    there; the rest can be asked for by id with privilege alone, EPERM, and has no place."""
    top = tmpfs(scratch / "top")
    for place in ("jail/below", "jail-not", "beside"):
        tmpfs(top / place)
    enter(copy(top, recursive=True))
    mounts = {one.mnt_point: one for one in mount_table()}
    others = [mounts[place].mnt_id for place in ("/", "/jail-not", "/beside")]

    os.chroot("/jail")
    os.chdir("/")
    (listed,) = mount_table()
    places = [statmount(number).mnt_point for number in others]
    with effective(0):
        (unprivileged,) = mount_table()
        refused = [outcome(statmount, number) for number in others]

    assert (listed.mnt_id, listed.mnt_point) == (mounts["/jail/below"].mnt_id, "/below")
    assert unprivileged == listed
    assert places == [None, None, None]
    assert refused == ["EPERM"] * 3


@pytest.mark.rule("Y8", "Y1", "Y2", "Y3")
@pytest.mark.needs("FSMOUNT_NAMESPACE")
def test_fsmount_namespace_has_the_same_layers() -> None:
    """fsmount(FSMOUNT_NAMESPACE) makes the same: a younger top on a private hidden nullfs."""
    fs = fsopen("tmpfs")
    fsconfig(fs, FSCONFIG_CMD_CREATE)

    fd = fsmount(fs, FSMOUNT_NAMESPACE | FSMOUNT_CLOEXEC)

    (top,) = mount_table(ns_fd=fd)
    base = base_of(fd)
    assert (top.mnt_point, top.mnt_root, top.fs_type) == ("/", "/", "tmpfs")
    assert top.mnt_parent_id == base.mnt_id == base.mnt_parent_id < top.mnt_id
    assert (base.fs_type, base.mnt_root, base.mnt_point) == ("nullfs", "/", None)
    assert base.mnt_propagation == MS_PRIVATE
    assert listmount(base.mnt_id, ns_fd=fd) == [top.mnt_id]
    assert mnt_get_info(fd).nr_mounts == 1
