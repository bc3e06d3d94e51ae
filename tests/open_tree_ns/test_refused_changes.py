# SPDX-License-Identifier: GPL-2.0-only
"""What mount_setattr(2) takes and refuses inside the new namespace: as everywhere."""

from __future__ import annotations

import ctypes
import mmap
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.trees import created, fresh_tmpfs, tmpfs
from tests.utils.tasks.userns import become_foreign, userns_fd
from tests.utils.uapi.caps import effective
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_REC,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import (
    NR_MOUNT_SETATTR,
    MountAttrStruct,
    c_path,
    fsmount,
    mount,
    mount_setattr,
    syscall,
)

#: Attributes that no kernel has.
UNKNOWN = 1 << 40
#: A struct that asks for an attribute, and its size.
ASKS = bytes(MountAttrStruct(MOUNT_ATTR_NODEV))
SIZE = len(ASKS)


def change_by(struct: bytes | None, size: int, path: str = "/") -> None:
    """mount_setattr(2) with whatever *struct*, said to be of *size* bytes."""
    syscall(
        "mount_setattr",
        NR_MOUNT_SETATTR,
        ctypes.c_long(AT_FDCWD),
        c_path(path),
        ctypes.c_ulong(0),
        struct,
        ctypes.c_size_t(size),
    )


@pytest.mark.rule("N21")
def test_struct(scratch: Path) -> None:
    """The struct may be larger than the kernel's where zeros follow, and is E2BIG otherwise, as is
    more than a page; a smaller one is EINVAL and NULL is EFAULT. One that asks for nothing is
    success, whatever the path; nothing at all is done without privilege, EPERM."""
    enter(copy(tmpfs(scratch / "top")))
    before = mount_table()

    with effective(0):
        unprivileged = outcome(change_by, bytes(SIZE), SIZE)
    refused = {
        "smaller": outcome(change_by, ASKS, SIZE - 1),
        "NULL": outcome(change_by, None, SIZE),
        "more follows": outcome(change_by, ASKS + b"\1", SIZE + 1),
        "more than a page": outcome(change_by, ASKS.ljust(8192, b"\0"), mmap.PAGESIZE + 1),
        "nothing, of no path": outcome(change_by, bytes(SIZE), SIZE, "/none"),
        "something, of no path": outcome(change_by, ASKS, SIZE, "/none"),
    }
    unchanged = mount_table()
    larger = outcome(change_by, ASKS + bytes(8), SIZE + 8)

    assert unprivileged == "EPERM"
    assert refused == {
        "smaller": "EINVAL",
        "NULL": "EFAULT",
        "more follows": "E2BIG",
        "more than a page": "E2BIG",
        "nothing, of no path": "success",
        "something, of no path": "ENOENT",
    }
    assert unchanged == before
    assert larger == "success"
    assert [mount.mnt_attr for mount in mount_table()] == [MOUNT_ATTR_NODEV]


@pytest.mark.rule("N21")
def test_what_is_no_change(scratch: Path) -> None:
    """An attribute or a propagation type that there is none of, two types, a mode of access time
    for which the old one is not cleared as a whole, two such modes, and an id map that is to be
    taken off are EINVAL; so is an id map of what is no user namespace, EBADF where it is closed."""
    enter(copy(tmpfs(scratch / "top")))
    before = mount_table()
    of_root = partial(mount_setattr, AT_FDCWD, "/")
    mode = partial(of_root, attr_clr=MOUNT_ATTR__ATIME)
    id_map = partial(of_root, attr_set=MOUNT_ATTR_IDMAP)
    changes = {
        "attribute set": partial(of_root, attr_set=UNKNOWN),
        "attribute cleared": partial(of_root, attr_clr=UNKNOWN),
        "type": partial(of_root, propagation=MS_REC),
        "type and more": partial(of_root, propagation=MS_SHARED | MS_REC),
        "two types": partial(of_root, propagation=MS_SLAVE | MS_PRIVATE),
        "mode without the old one": partial(of_root, attr_set=MOUNT_ATTR_NOATIME),
        "part of the old one": partial(of_root, attr_clr=MOUNT_ATTR_NOATIME),
        "two modes": partial(mode, attr_set=MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME),
        "id map taken off": partial(of_root, attr_clr=MOUNT_ATTR_IDMAP),
        "id map of a directory": partial(id_map, userns_fd=os.open("/", os.O_RDONLY)),
        "id map of a mount namespace": partial(id_map, userns_fd=copy("/")),
        "id map of no descriptor": partial(id_map, userns_fd=1 << 40),
        "id map of a closed one": partial(id_map, userns_fd=1 << 20),
    }

    found = {name: outcome(change) for name, change in changes.items()}

    assert found == {**dict.fromkeys(changes, "EINVAL"), "id map of a closed one": "EBADF"}
    assert mount_table() == before


@pytest.mark.rule("N21")
@pytest.mark.needs("nested user namespace")
def test_id_maps_of_a_new_file_system(scratch: Path) -> None:
    """An id map for a new file system is that of a user namespace over which the caller has
    CAP_SYS_ADMIN, not that of a parent or of a sibling, EPERM, nor the file system's own, EINVAL.
    Once given it is neither taken off nor replaced; and not every file system can have one."""
    top = tmpfs(scratch / "top")
    parent = os.open("/proc/self/ns/user", os.O_RDONLY)
    sibling = userns_fd("7 0 1\n", "7 0 1\n")
    become_foreign()
    own = os.open("/proc/self/ns/user", os.O_RDONLY)
    child = userns_fd("7 0 1\n", "7 0 1\n")
    enter(copy(top))
    of_tree = partial(mount_setattr, fresh_tmpfs(), "", AT_EMPTY_PATH)
    of_ramfs = partial(mount_setattr, fsmount(created("ramfs")), "", AT_EMPTY_PATH)
    id_map = partial(of_tree, attr_set=MOUNT_ATTR_IDMAP)

    found = {
        "parent": outcome(id_map, userns_fd=parent),
        "sibling": outcome(id_map, userns_fd=sibling),
        "own": outcome(id_map, userns_fd=own),
        "child": outcome(id_map, userns_fd=child),
        "again": outcome(id_map, userns_fd=child),
        "taken off": outcome(of_tree, attr_clr=MOUNT_ATTR_IDMAP),
        "ramfs": outcome(of_ramfs, attr_set=MOUNT_ATTR_IDMAP, userns_fd=child),
    }

    assert found == {
        **dict.fromkeys(("parent", "sibling", "again"), "EPERM"),
        **dict.fromkeys(("own", "taken off", "ramfs"), "EINVAL"),
        "child": "success",
    }


@pytest.mark.rule("N21")
@pytest.mark.needs("user namespace")
def test_id_map_of_what_is_written_to(scratch: Path) -> None:
    """A new file system gets no id map while a file on it is open for writing: EBUSY."""
    ids = userns_fd("7 0 1\n", "7 0 1\n")
    enter(copy(tmpfs(scratch / "top")))
    tree = fresh_tmpfs()
    written = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=tree)
    change = partial(mount_setattr, tree, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_IDMAP)

    busy = outcome(change, userns_fd=ids)
    os.close(written)

    assert (busy, outcome(change, userns_fd=ids)) == ("EBUSY", "success")


@pytest.mark.rule("N21")
def test_last_part_of_the_path(scratch: Path) -> None:
    """A link at the end is followed, and with AT_SYMLINK_NOFOLLOW is no mount, EINVAL; with
    AT_EMPTY_PATH the descriptor is enough, and an empty path is ENOENT without."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    (top / "link").symlink_to("child")
    enter(copy(top, recursive=True))
    child = os.open("/child", os.O_PATH)

    found = [
        outcome(mount_setattr, AT_FDCWD, "/link", AT_SYMLINK_NOFOLLOW, attr_set=MOUNT_ATTR_NODEV),
        outcome(mount_setattr, child, "", attr_set=MOUNT_ATTR_NODEV),
        outcome(mount_setattr, AT_FDCWD, "/link", attr_set=MOUNT_ATTR_NOEXEC),
        outcome(mount_setattr, child, "", AT_EMPTY_PATH, attr_set=MOUNT_ATTR_NOSUID),
    ]

    assert found == ["EINVAL", "ENOENT", "success", "success"]
    attributes = {mount.mnt_point: mount.mnt_attr for mount in mount_table()}
    assert attributes == {"/": 0, "/child": MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID}


@pytest.mark.rule("N21")
@pytest.mark.needs("root", "debugfs automount")
def test_automount_at_the_end(scratch: Path) -> None:
    """An automount is triggered, and changed; with AT_NO_AUTOMOUNT it is no mount yet: EINVAL."""
    top = tmpfs(scratch / "top")
    (top / "debug").mkdir()
    mount("debugfs", top / "debug", "debugfs")
    enter(copy(top, recursive=True))
    change = partial(mount_setattr, AT_FDCWD, "/debug/tracing", attr_set=MOUNT_ATTR_NODEV)

    found = [outcome(change, AT_NO_AUTOMOUNT), outcome(change)]

    assert found == ["EINVAL", "success"]
    kinds = {mount.fs_type: mount.mnt_attr for mount in mount_table()}
    assert {kind: bool(kinds[kind] & MOUNT_ATTR_NODEV) for kind in ("debugfs", "tracefs")} == {
        "debugfs": False,
        "tracefs": True,
    }
