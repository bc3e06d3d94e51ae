# SPDX-License-Identifier: GPL-2.0-only
"""Life in the new namespace: what becomes of its root, and the flag used again."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter, enter_top, place
from tests.open_tree_ns.trees import small_tree
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import base_of, namespace_tree, predict_copy
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs, write
from tests.utils.uapi.constants import (
    MNT_DETACH,
)
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info, ns_id
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import attach, mount, umount2


@pytest.mark.rule("N3")
@pytest.mark.usefixtures("unlocked")
def test_umount_of_the_root_without_detach(scratch: Path) -> None:
    """umount(2) of "/" unmounts nothing: it makes the file system read-only, everywhere."""
    # On a tmpfs of the case's own, and nowhere else: it is for the source as well.
    top = tmpfs(scratch / "top", "top.txt")
    source = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    fd = copy(top)
    enter_top(fd)
    assert mount_table()[0].fs_type == "tmpfs"
    before = listmount()

    umount2("/", 0)

    assert listmount() == before == listmount(ns_fd=fd)
    assert mount_table()[0].sb_flags & 1 == 1  # SB_RDONLY
    fails(errno.EROFS, write, Path("/new.txt"))
    fails(errno.EROFS, os.mkdir, "new", dir_fd=source)


@pytest.mark.rule("N4")
@pytest.mark.usefixtures("unlocked")
def test_detached_root(scratch: Path) -> None:
    """Who detaches "/" keeps the dead root: files are still there, nothing is mounted, and
    nothing can be mounted on it, unmounted or copied."""
    fd = copy(small_tree(scratch), recursive=True)
    top = mount_table(ns_fd=fd)[0]
    enter_top(fd)

    umount2("/", MNT_DETACH)

    assert (mount_table(), mnt_get_info(fd).nr_mounts) == ([], 0)
    assert (mnt_id_of("/"), Path("/top.txt").read_text()) == (top.mnt_id, "top.txt")
    assert {
        "mount": outcome(mount, "tmpfs", "/dir", "tmpfs"),
        "attach": outcome(attach, fresh_tmpfs(), "/dir"),
        "statmount": outcome(statmount, top.mnt_id),
        "unmount": outcome(umount2, "/", MNT_DETACH),
        "copy": outcome(copy, "/"),
        "recursive copy": outcome(copy, "/", recursive=True),
    } == {
        **dict.fromkeys(["mount", "attach", "statmount"], "ENOENT"),
        **dict.fromkeys(["unmount", "copy", "recursive copy"], "EINVAL"),
    }


@pytest.mark.rule("N4")
@pytest.mark.usefixtures("unlocked")
def test_emptied_namespace_from_outside(scratch: Path) -> None:
    """A namespace whose "/" was detached has no mount to list or to ask for from outside, by
    descriptor or by id: ENOENT. It is there all the same, and holds none."""
    fd = copy(small_tree(scratch), recursive=True)
    mnt_ns_id, top, base = ns_id(fd), mount_table(ns_fd=fd)[0], base_of(fd)
    here = current_mnt_ns()
    enter_top(fd)
    umount2("/", MNT_DETACH)

    enter(here)

    assert {
        "list by descriptor": outcome(listmount, ns_fd=fd),
        "list by id": outcome(listmount, ns_id=mnt_ns_id),
        "the top": outcome(statmount, top.mnt_id, ns_fd=fd),
        "the base": outcome(statmount, base.mnt_id, ns_id=mnt_ns_id),
    } == dict.fromkeys(["list by descriptor", "list by id", "the top", "the base"], "ENOENT")
    info = mnt_get_info(fd)
    assert (info.mnt_ns_id, info.nr_mounts) == (mnt_ns_id, 0)


@pytest.mark.rule("N4", "Y7")
@pytest.mark.usefixtures("unlocked")
def test_new_root_after_detaching(scratch: Path) -> None:
    """A namespace whose "/" was detached is entered on nullfs, the base, which cannot be unmounted;
    a tmpfs put there is the root for whoever enters next."""
    fd = copy(small_tree(scratch), recursive=True)
    base = base_of(fd)
    enter_top(fd)
    umount2("/", MNT_DETACH)

    enter(fd)

    assert {mnt for mnt, _ in place().values()} == {base.mnt_id}
    assert [(mount.mnt_id, mount.fs_type) for mount in mount_table()] == [(base.mnt_id, "nullfs")]
    assert os.listdir("/") == []
    assert outcome(umount2, "/", MNT_DETACH) == "EINVAL"

    tree = fresh_tmpfs()
    attach(tree, "/")
    assert mnt_id_of("/") == base.mnt_id
    enter(fd)

    assert {mnt for mnt, _ in place().values()} == {mnt_id_of(tree)}
    assert [mount.fs_type for mount in mount_table()] == ["tmpfs"]
    assert base_of(fd) == base
    assert mnt_get_info(fd).nr_mounts == 1


@pytest.mark.rule("N10")
def test_again_from_inside(caller: Caller, scratch: Path) -> None:
    """The flag works from inside a namespace it made, and inside that one: each copy is what the
    model says, in a namespace of its own, and the outer ones stay as they are."""
    top = small_tree(scratch)
    tmpfs(top / "child" / "deep", "deep.txt")
    caller.act()
    fds = [copy(top, recursive=True)]
    for path in ("/child", "/deep"):
        enter_top(fds[-1])
        outer = [namespace_tree(each).lines() for each in fds]
        expected = predict_copy(path, recursive=True)
        fd = copy(path, recursive=True)
        assert namespace_tree(fd).lines() == expected.lines()
        assert ns_id(fd) > ns_id(fds[-1])
        assert [namespace_tree(each).lines() for each in fds] == outer
        fds.append(fd)
    enter_top(fds[-1])
    assert os.listdir("/") == ["deep.txt"]


@pytest.mark.rule("N10", "P17")
@pytest.mark.usefixtures("unlocked")
def test_again_from_an_emptied_namespace(scratch: Path) -> None:
    """From the bare base, where nothing is left to copy, the flag works as well: on nullfs itself,
    and on a tmpfs that was never mounted."""
    fd = copy(tmpfs(scratch / "top"))
    enter_top(fd)
    umount2("/", MNT_DETACH)
    enter(fd)

    nothing = copy("/", recursive=True)
    something = copy("", dirfd=fresh_tmpfs())

    for made, fs_type in ((nothing, "nullfs"), (something, "tmpfs")):
        assert [mount.fs_type for mount in mount_table(ns_fd=made)] == [fs_type]
        assert base_of(made).fs_type == "nullfs"
    assert mnt_get_info(fd).nr_mounts == 0
