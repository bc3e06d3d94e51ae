# SPDX-License-Identifier: GPL-2.0-only
"""What a copied mount takes along, its attributes and its id map, and changes for itself."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, copy_by, enter
from tests.utils.expect import Outcome, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, propagation, tmpfs, write
from tests.utils.tasks.userns import userns_fd
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    OPEN_TREE_CLONE,
    MountAttr,
)
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import MountAttrStruct, attach, mount_setattr, open_tree_attr

ATTRIBUTES = {
    "ro": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
    "nosymfollow": MOUNT_ATTR_NOSYMFOLLOW,
    "noatime": MOUNT_ATTR_NOATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "nodiratime": MOUNT_ATTR_NODIRATIME,
    "all": MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
}


def set_attributes(path: Path, attributes: MountAttr) -> None:
    """Add *attributes* to those of the mount at *path*."""
    atime = MOUNT_ATTR__ATIME if attributes & MOUNT_ATTR__ATIME else 0
    mount_setattr(AT_FDCWD, path, attr_set=attributes, attr_clr=atime)


@pytest.mark.rule("C5")
def test_attributes_come_along(caller: Caller, scratch: Path) -> None:
    """Each mount of the copy has exactly the attributes of its source, each kind for itself."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "plain")
    for name, attributes in ATTRIBUTES.items():
        set_attributes(tmpfs(top / name), attributes)
    source = {mount.mnt_point: mount.mnt_attr for mount in mount_table()}
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top, recursive=True)

    assert namespace_tree(fd).lines() == expected.lines()
    got = {mount.mnt_point: mount.mnt_attr for mount in mount_table(ns_fd=fd)}
    plain = source[str(top / "plain")]
    assert got.pop("/plain", "not copied") == plain
    assert {point: attr & ~plain for point, attr in got.items() if point != "/"} == {
        f"/{name}": attributes for name, attributes in ATTRIBUTES.items()
    }


@pytest.mark.rule("C5")
def test_attributes_of_the_top_come_along(caller: Caller, scratch: Path) -> None:
    """The top of a single copy keeps its source's attributes; a restriction of the source holds
    inside, and one of another mount of the same file system does not."""
    plain = tmpfs(scratch / "plain", "file")
    strict = bind(plain, scratch / "strict")
    set_attributes(strict, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME)
    caller.act()
    strict_fd = copy(strict)
    plain_fd = copy(plain)

    enter(strict_fd)
    assert statmount(mnt_id_of("/")).mnt_attr & ATTRIBUTES["ro"]
    assert statmount(mnt_id_of("/")).mnt_attr & MOUNT_ATTR__ATIME == MOUNT_ATTR_NOATIME
    assert outcome(write, Path("/new")) == "EROFS"
    enter(plain_fd)
    assert outcome(write, Path("/new")) == "success"


@pytest.mark.rule("C14")
@pytest.mark.parametrize("kind", [MS_PRIVATE, MS_SHARED], ids=["private", "shared"])
@pytest.mark.parametrize("changed", ["source", "copy"])
def test_read_only_on_one_side_alone(
    changed: str, kind: int, caller: Caller, scratch: Path
) -> None:
    """A source that is made read-only leaves its copy writable, and a copy its source, though the
    two be peers. A file that is open for writing holds the change up where it was opened, EBUSY,
    and not on the other side."""
    source = propagation(tmpfs(scratch / "source", "file"), kind)
    copied = copy_by(caller, source)
    other = "copy" if changed == "source" else "source"

    def on(side: str, call: Callable[[Path], Outcome]) -> Outcome:
        return call(source) if side == "source" else copied.inside(partial(call, Path("/")))

    def opened(side: str) -> int:
        if side == "source":
            return os.open(source / "file", os.O_WRONLY)
        return copied.opened_inside(partial(os.open, "/file", os.O_WRONLY))

    def make_read_only(top: Path) -> Outcome:
        return outcome(mount_setattr, AT_FDCWD, top, attr_set=MOUNT_ATTR_RDONLY)

    def written(top: Path) -> Outcome:
        return outcome(write, top / "new")

    own_writer, _other_writer = opened(changed), opened(other)
    found = {"while in use": on(changed, make_read_only)}
    os.close(own_writer)
    found["while the other is in use"] = on(changed, make_read_only)
    found["write"], found["write on the other side"] = on(changed, written), on(other, written)

    assert found == {
        "while in use": "EBUSY",
        "while the other is in use": "success",
        "write": "EROFS",
        "write on the other side": "success",
    }


def idmapped(source: Path, target: Path) -> Path:
    """Mount *source* at *target* so that its id 5 appears as the caller's own id."""
    tree = clone(source)
    ids = userns_fd("5 0 1\n", "5 0 1\n")
    mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP, userns_fd=ids)
    target.mkdir()
    attach(tree, target)
    return target


@pytest.mark.needs("user namespace")
@pytest.mark.rule("C5")
def test_id_maps_come_along(caller: Caller, scratch: Path) -> None:
    """An idmapped mount is copied with its id map, as the top and as a child: files belong to the
    same users inside as they do through the source's path, and not to those of the plain mount."""
    top = tmpfs(scratch / "top")
    plain = tmpfs(top / "plain", "file")
    idmapped(plain, top / "mapped")
    caller.act()
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    expected_leaf = predict_copy(top / "mapped", recursive=False, foreign=caller.foreign)
    uids = {name: (top / name / "file").stat().st_uid for name in ("plain", "mapped")}

    fd = copy(top, recursive=True)
    leaf = copy(top / "mapped")

    maps = {m.mnt_point: (m.uidmap, m.gidmap) for m in mount_table(ns_fd=fd)}
    maps.pop("/", None)
    assert maps == {"/plain": ((), ()), "/mapped": (("5 0 1",), ("5 0 1",))}
    assert namespace_tree(fd).lines() == expected.lines()
    assert namespace_tree(leaf).lines() == expected_leaf.lines()
    enter(fd)
    assert {name: os.stat(f"/{name}/file").st_uid for name in uids} == uids
    enter(leaf)
    assert os.stat("/file").st_uid == uids["mapped"] != uids["plain"]


@pytest.mark.needs("user namespace")
@pytest.mark.rule("C5", "P14")
def test_clone_made_with_attributes(scratch: Path) -> None:
    """What open_tree_attr(2) gives a clone comes along: attributes, those of all its mounts with
    AT_RECURSIVE, and an id map in place of the source's."""
    top = tmpfs(scratch / "top")
    mapped = idmapped(tmpfs(scratch / "plain"), top / "mapped")
    nodev = MountAttrStruct(MOUNT_ATTR_NODEV)
    id_map = MountAttrStruct(MOUNT_ATTR_IDMAP, userns_fd=userns_fd("7 0 1\n", "7 0 1\n"))
    size = ctypes.sizeof(MountAttrStruct)

    tree = open_tree_attr(AT_FDCWD, top, OPEN_TREE_CLONE | AT_RECURSIVE, nodev, size)
    leaf = open_tree_attr(AT_FDCWD, mapped, OPEN_TREE_CLONE, id_map, size)
    tree_copy, leaf_copy = copy("", dirfd=tree, recursive=True), copy("", dirfd=leaf)

    attributes = {m.mnt_point: m.mnt_attr for m in mount_table(ns_fd=tree_copy)}
    assert attributes == {"/": MOUNT_ATTR_NODEV, "/mapped": MOUNT_ATTR_NODEV | MOUNT_ATTR_IDMAP}
    assert [(m.uidmap, m.gidmap) for m in mount_table(ns_fd=leaf_copy)] == [(("7 0 1",),) * 2]


@pytest.mark.needs("nested user namespace")
@pytest.mark.rule("C5")
def test_id_maps_cannot_be_changed_inside(caller: Caller, scratch: Path) -> None:
    """A mount of the new namespace is in use, so that it gets no id map any more: EINVAL; where it
    has one already, and where the caller does not own the file system: EPERM."""
    top = tmpfs(scratch / "top")
    idmapped(tmpfs(top / "plain"), top / "mapped")
    caller.act()
    ids = userns_fd("7 0 1\n", "7 0 1\n")
    enter(copy(top, recursive=True))
    before = mount_table()

    def change(path: str) -> None:
        mount_setattr(AT_FDCWD, path, attr_set=MOUNT_ATTR_IDMAP, userns_fd=ids)

    got = {path: outcome(change, path) for path in ("/", "/plain", "/mapped")}
    own = "EPERM" if caller.foreign else "EINVAL"
    assert got == {"/": own, "/plain": own, "/mapped": "EPERM"}
    assert mount_table() == before
