# SPDX-License-Identifier: GPL-2.0-only
"""Across the boundary: what cannot be done to the namespace from outside, what can be carried in,
and the order of steps a container runtime takes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter, mount_points
from tests.open_tree_ns.trees import small_tree
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, fresh_tmpfs, tmpfs, write
from tests.utils.tasks.process import holding, in_child
from tests.utils.tasks.userns import as_foreign, become_foreign
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_NEWPID,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_PRIVATE,
)
from tests.utils.uapi.nsfs import current_mnt_ns, ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    attach,
    mount,
    mount_setattr,
    move_mount,
    umount2,
    unshare,
)


@pytest.mark.rule("N7")
@pytest.mark.parametrize("way", ["descriptor", "proc"])
def test_from_outside(way: str, scratch: Path) -> None:
    """From outside nothing is mounted into the namespace, moved, changed, unmounted or taken out,
    whether it is reached by a directory descriptor or by /proc/PID/root: EINVAL, for its owner
    too."""
    fd = copy(small_tree(scratch), recursive=True)
    here = current_mnt_ns()
    before = namespace_tree(fd).lines(), mount_table()
    with holding(lambda: enter(fd)) as inside:
        if way == "proc":
            root = Path(inside.proc("root"))
        else:
            enter(fd)
            directory = os.open("/", os.O_PATH | os.O_DIRECTORY)
            enter(here)
            root = Path(f"/proc/self/fd/{directory}")
        assert (root / "top.txt").read_text() == "top.txt"
        mount_on = f"{root}/dir"
        found = {
            "attach": outcome(attach, fresh_tmpfs(), mount_on),
            "attach beneath": outcome(attach_beneath, fresh_tmpfs(), f"{root}/child"),
            "mount": outcome(mount, "tmpfs", mount_on, "tmpfs"),
            "bind": outcome(mount, scratch, mount_on, None, MS_BIND),
            "move": outcome(move_mount, AT_FDCWD, f"{root}/child", AT_FDCWD, mount_on, 0),
            "move in": outcome(move_mount, AT_FDCWD, scratch, AT_FDCWD, mount_on, 0),
            "move out": outcome(move_mount, AT_FDCWD, f"{root}/child", AT_FDCWD, scratch, 0),
            "bind out": outcome(mount, f"{root}/child", scratch, None, MS_BIND),
            "clone": outcome(clone, f"{root}/child"),
            "mount_setattr": outcome(
                mount_setattr, AT_FDCWD, f"{root}/child", attr_set=MOUNT_ATTR_RDONLY
            ),
            "umount": outcome(umount2, f"{root}/child", MNT_DETACH),
        }
        assert found == dict.fromkeys(found, "EINVAL")
        assert (namespace_tree(fd).lines(), mount_table()) == before


@pytest.mark.rule("N7")
def test_onto_the_handle(scratch: Path) -> None:
    """The handle is no place to mount on: move_mount(2) onto it is EINVAL, and so is
    mount_setattr(2) of it. Neither is it a directory: ENOTDIR."""
    fd = copy(small_tree(scratch), recursive=True)
    before = namespace_tree(fd).lines()
    to_fd = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    tree = clone(scratch)
    found = {
        "onto": outcome(move_mount, fresh_tmpfs(), "", fd, "", to_fd),
        "beneath": outcome(move_mount, tree, "", fd, "", to_fd | MOVE_MOUNT_BENEATH),
        "mount_setattr": outcome(mount_setattr, fd, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_RDONLY),
    }
    assert found == dict.fromkeys(found, "EINVAL")
    fails(errno.ENOTDIR, os.fchdir, fd)
    fails(errno.ENOTDIR, os.chroot, f"/proc/self/fd/{fd}")
    fails(errno.ENOTDIR, os.open, "top.txt", os.O_PATH, dir_fd=fd)
    assert namespace_tree(fd).lines() == before


@pytest.mark.rule("N8")
def test_carrying_namespace_files_in(scratch: Path) -> None:
    """A detached tree that holds a bind of a mount namespace's file can be attached inside when
    that namespace is newer than the one entered; its own, or an older one, is ELOOP."""
    top = small_tree(scratch)

    def tree_with(ns_fd: int, name: str) -> int:
        holder = tmpfs(scratch / name)
        attach(clone("", dirfd=ns_fd), write(holder / "ns"))
        return clone(holder, recursive=True)

    older = copy(top, recursive=True)
    entered = copy(top, recursive=True)
    newer = copy(top, recursive=True)
    trees = {
        "older": tree_with(older, "a"),
        "its own": tree_with(entered, "b"),
        "newer": tree_with(newer, "c"),
    }
    enter(entered)
    before = mount_table()

    found = {name: outcome(attach, tree, "/dir") for name, tree in trees.items()}

    assert found == {"older": "ELOOP", "its own": "ELOOP", "newer": "success"}
    assert mount_table()[: len(before)] == before
    assert [mount.fs_type for mount in mount_table()[len(before) :]] == ["tmpfs", "nsfs"]
    assert ns_inode("/dir/ns") == ns_inode(newer)


@pytest.mark.rule("N8")
def test_caller_cannot_bind_its_own_namespace_inside(scratch: Path) -> None:
    """Inside, the file of the namespace cannot be bind-mounted, nor that of an older one: EINVAL;
    that of a newer one can."""
    top = small_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    write(top / "file")
    older, entered = current_mnt_ns(), copy(top, recursive=True)
    newer = copy(top, recursive=True)
    enter(entered)

    def bound(fd: int) -> str:
        return outcome(mount, f"/proc/self/fd/{fd}", "/file", None, MS_BIND)

    assert {"older": bound(older), "its own": bound(entered), "newer": bound(newer)} == {
        "older": "EINVAL",
        "its own": "EINVAL",
        "newer": "success",
    }


@pytest.mark.needs("user namespace", "proc in a user namespace")
@pytest.mark.rule("N9")
@pytest.mark.parametrize(
    ("with_proc", "own_pids", "result"),
    [
        pytest.param(True, True, "success", id="visible_and_owned"),
        pytest.param(False, True, "EPERM", id="no_proc_in_the_copy"),
        pytest.param(True, False, "EPERM", id="pids_of_another"),
    ],
)
def test_mounting_proc(with_proc: bool, own_pids: bool, result: str, scratch: Path) -> None:
    """A foreign caller mounts proc inside when a fully visible one was copied, and its PID
    namespace belongs to its user namespace; otherwise EPERM."""
    top = small_tree(scratch)
    if with_proc:
        mount("proc", top / "child", "proc")

    def act() -> Outcome:
        if own_pids:
            unshare(CLONE_NEWPID)
        enter(copy(top, recursive=True))
        return in_child(lambda: outcome(mount, "proc", "/dir", "proc"))

    assert in_child(as_foreign(act)) == result


@pytest.mark.needs("user namespace", "proc in a user namespace")
@pytest.mark.rule("N9")
def test_mounting_proc_that_is_partly_covered(scratch: Path) -> None:
    """A copied proc with something mounted over a part of it is not fully visible: EPERM."""
    top = small_tree(scratch)
    mount("proc", top / "child", "proc")
    mount("tmpfs", top / "child" / "sys", "tmpfs")

    def act() -> Outcome:
        unshare(CLONE_NEWPID)
        enter(copy(top, recursive=True))
        return in_child(lambda: outcome(mount, "proc", "/dir", "proc"))

    assert in_child(as_foreign(act)) == "EPERM"


class Image(NamedTuple):
    """What a container is made of: a root file system with mounts, and two things of the host."""

    root: Path
    device: Path
    volume: Path


def make_image(scratch: Path) -> Image:
    """Make an image with places for the device and the volume in its root file system."""
    root = tmpfs(scratch / "image", "etc/hostname")
    tmpfs(root / "usr", "bin/sh")
    for name in ("dev", "data"):
        (root / name).mkdir()
    write(root / "dev" / "null")
    device = write(scratch / "device", "a device of the host")
    return Image(root, device, tmpfs(scratch / "volume", "volume.txt"))


def attach_and_check(image: Image, device: int, volume: int) -> None:
    """Inside, attach the clones *device* and *volume*; check that nothing else is there."""
    fails(errno.ENOENT, os.stat, image.device)
    fails(errno.ENOENT, os.stat, image.volume)

    for tree, target in ((device, "/dev/null"), (volume, "/data")):
        mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID)
        attach(tree, target)

    assert sorted(mount_points()) == ["/", "/data", "/dev/null", "/usr"]
    assert Path("/dev/null").read_text() == "a device of the host"
    assert Path("/data/volume.txt").read_text() == "volume.txt"
    assert Path("/usr/bin/sh").read_text() == "sh"
    data = statmount(mnt_id_of("/data"))
    assert (data.mnt_attr, data.mnt_propagation) == (MOUNT_ATTR_NOSUID, MS_PRIVATE)


@pytest.mark.rule("P14", "C2")
def test_steps_of_an_owners_container_runtime(scratch: Path) -> None:
    """An owner clones the root file system, makes a namespace of the clone, clones what else is
    needed, enters, and attaches that."""
    image = make_image(scratch)
    expected = predict_copy(image.root, recursive=True)

    rootfs = clone(image.root, recursive=True)
    fd = copy("", dirfd=rootfs, recursive=True)
    device, volume = clone(image.device), clone(image.volume)
    os.close(rootfs)
    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)

    attach_and_check(image, device, volume)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("C2")
def test_steps_of_a_foreign_container_runtime(scratch: Path) -> None:
    """A foreign caller, which may not clone, copies the root file system by its path, enters, and
    attaches clones that it has inherited."""
    image = make_image(scratch)
    expected = predict_copy(image.root, recursive=True, foreign=True)
    device, volume = clone(image.device), clone(image.volume)
    become_foreign()

    fails(errno.EPERM, clone, image.root, recursive=True)
    fd = copy(image.root, recursive=True)
    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)

    attach_and_check(image, device, volume)
