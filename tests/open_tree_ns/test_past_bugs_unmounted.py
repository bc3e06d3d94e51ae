# SPDX-License-Identifier: GPL-2.0-only
"""Mistakes kernels made with mounts that are gone, and with what would never go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.constants import (
    AT_EMPTY_PATH,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_T_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts import listmount, mnt_id_of, mount_table
from tests.utils.nsfs import current_mnt_ns, ns_id
from tests.utils.process import in_child
from tests.utils.syscalls import (
    mount,
    mount_setattr,
    move_mount,
    umount2,
)
from tests.utils.trees import bind, fresh_tmpfs, propagation, tmpfs, write

FROM_FD = MOVE_MOUNT_F_EMPTY_PATH


@pytest.fixture
def outside(scratch: Path) -> Path:
    """A tree with a place for files, and /proc, so that descriptors can be mounted inside."""
    top = tmpfs(scratch / "top")
    bind(Path("/proc"), top / "proc", recursive=True)
    write(top / "file")
    return top


@pytest.mark.rule("BK2", "T1")
@fixes.NAMESPACE_LOOPS
def test_recursive_bind_cannot_pin_its_own_namespace(outside: Path, scratch: Path) -> None:
    """Outside, the file of the new namespace lies on a bind of some other file. Inside, a recursive
    bind of that would hold the namespace by a mount in itself: EINVAL; a single one is fine. And
    the namespace ends with its last task."""
    target = write(scratch / "target")
    mount("/proc/self/ns/net", target, None, MS_BIND)
    below = os.open(target, os.O_PATH)
    fd = copy(outside, recursive=True)
    mnt_ns_id = ns_id(fd)
    mount(f"/proc/self/fd/{fd}", target, None, MS_BIND)

    def inside() -> dict[str, str]:
        enter(fd)
        source = f"/proc/self/fd/{below}"
        return {
            "rbind": outcome(mount, source, "/file", None, MS_BIND | MS_REC),
            "bind": outcome(mount, source, "/file", None, MS_BIND),
        }

    assert in_child(inside) == {"rbind": "EINVAL", "bind": "success"}
    umount2(target, MNT_DETACH)
    os.close(fd)
    assert outcome(listmount, ns_id=mnt_ns_id) == "ENOENT"


@pytest.mark.rule("BK4", "P12")
@fixes.UNMOUNTED_TREES
def test_unmounted_trees_are_not_walked(outside: Path) -> None:
    """What was lazily unmounted inside cannot be copied: EINVAL. Only the file of a namespace can,
    alone and as a bind, since it could be had in other ways."""
    enter(copy(outside, recursive=True))
    tmpfs(Path("/dir"))
    tmpfs(Path("/dir/child"))
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = {name: os.open(name, os.O_PATH) for name in ("/dir", "/dir/child", "/file")}
    umount2("/dir", MNT_DETACH)
    umount2("/file", MNT_DETACH)

    def copies(name: str) -> dict[str, Outcome]:
        fd, source = held[name], f"/proc/self/fd/{held[name]}"
        return {
            "namespace": outcome(copy, "", dirfd=fd),
            "recursive namespace": outcome(copy, "", dirfd=fd, recursive=True),
            "recursive clone": outcome(clone, "", dirfd=fd, recursive=True),
            "clone": outcome(clone, "", dirfd=fd),
            "rbind": outcome(mount, source, "/file", None, MS_BIND | MS_REC),
        }

    dead = dict.fromkeys(
        ["namespace", "recursive namespace", "recursive clone", "clone", "rbind"], "EINVAL"
    )
    file = {"namespace": "ENOTDIR", "recursive namespace": "ENOTDIR", "clone": "success"}
    assert {name: copies(name) for name in held} == {
        "/dir": {**dead, "rbind": "EINVAL"},
        "/dir/child": dead,
        "/file": {**dead, **file},
    }


@pytest.mark.rule("BK5")
@fixes.CLONED_UMOUNT_FLAG
def test_copy_of_an_unmounted_file_is_an_ordinary_mount(outside: Path) -> None:
    """A bind of a namespace's file that was unmounted can be bound again, and that bind is a mount
    like others: it ends when its place is removed from outside."""
    fd, here = copy(outside, recursive=True), current_mnt_ns()
    enter(fd)
    mount("/proc/self/ns/net", "/file", None, MS_BIND)
    held = os.open("/file", os.O_PATH)
    umount2("/file", MNT_DETACH)
    before = listmount()
    mount(f"/proc/self/fd/{held}", "/file", None, MS_BIND)
    again = os.open("/file", os.O_PATH)
    assert len(listmount()) == len(before) + 1
    enter(here)

    (outside / "file").unlink()

    enter(fd)
    assert listmount() == before
    change = outcome(mount_setattr, again, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID)
    assert change == "EINVAL"


def left_behind(scratch: Path) -> int:
    """A descriptor of a mount in the new namespace, where the caller is afterwards, that was
    unmounted from outside while another lay on it, which slid down and is gone too."""
    top = propagation(tmpfs(scratch / "top"), MS_SHARED)
    tmpfs(top / "a", "propagated.txt")
    fd, here = copy(top, recursive=True), current_mnt_ns()
    enter(fd)
    mount(None, "/", None, MS_SLAVE)
    mount(None, "/a", None, MS_SLAVE)
    held = os.open("/a", os.O_PATH)
    over = tmpfs(Path("/a"), "own.txt")
    slid = mnt_id_of(over)
    enter(here)

    umount2(top / "a", MNT_DETACH)

    enter(fd)
    table = mount_table()
    assert [(mount.mnt_id, mount.mnt_point) for mount in table[1:]] == [(slid, "/a")]
    assert table[1].mnt_parent_id == table[0].mnt_id
    umount2("/a", MNT_DETACH)
    assert mount_table() == table[:1]
    return held


@pytest.mark.rule("BK6", "P12")
def test_mount_that_others_slid_off_is_no_source(scratch: Path) -> None:
    """A mount inside is unmounted from outside while another lies on it, which slides down in its
    place and is unmounted later. The dead mount, held by a descriptor, cannot be copied."""
    held = left_behind(scratch)
    assert {
        "single": outcome(copy, "", dirfd=held),
        "recursive": outcome(copy, "", dirfd=held, recursive=True),
        "clone": outcome(clone, "", dirfd=held),
    } == dict.fromkeys(["single", "recursive", "clone"], "EINVAL")
    assert len(mount_table()) == 1


@pytest.mark.needs("expendable kernel")  # without the fix it follows a pointer to freed memory
@pytest.mark.rule("BK6")
@fixes.STALE_OVERMOUNT
def test_what_slid_off_a_dead_mount_is_forgotten(scratch: Path) -> None:
    """Nothing can be moved beneath what once lay on the dead mount: ENOENT."""
    held = left_behind(scratch)
    beneath = FROM_FD | MOVE_MOUNT_T_EMPTY_PATH | MOVE_MOUNT_BENEATH
    assert outcome(move_mount, fresh_tmpfs(), "", held, "", beneath) == "ENOENT"
    assert len(mount_table()) == 1
