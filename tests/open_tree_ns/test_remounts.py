# SPDX-License-Identifier: GPL-2.0-only
"""Changes of attributes that are allowed, which unlock nothing; and refused ones, which change
nothing and hold nobody up."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.locks import locks
from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.process import started
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import mount, mount_setattr, umount2

foreign = pytest.mark.needs("user namespace")


@foreign
@pytest.mark.rule("K13")
def test_allowed_changes_unlock_nothing(scratch: Path) -> None:
    """A foreign caller's change that keeps what is locked is allowed, by mount_setattr(2) and by a
    remount of the mount; afterwards the mount is as locked to its place as before, and each locked
    restriction is EPERM to take off."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child", flags=MS_NOSUID | MS_NODEV)
    become_foreign()
    enter(copy(top, recursive=True))
    both = MS_NOSUID | MS_NODEV
    change = partial(mount_setattr, AT_FDCWD, "/child")
    remount = partial(mount, None, "/child", None)
    steps = {
        "adding": partial(change, attr_set=MOUNT_ATTR_NOEXEC),
        "taking off": partial(change, attr_clr=MOUNT_ATTR_NOEXEC),
        "remount": partial(remount, MS_REMOUNT | MS_BIND | both | MS_NOEXEC),
        "remount back": partial(remount, MS_REMOUNT | MS_BIND | both),
        "same again": partial(change, attr_set=MOUNT_ATTR_NOSUID),
    }

    found = {}
    for name, step in steps.items():
        step()
        found[name] = (
            locks(),
            *(
                str(outcome(mount_setattr, AT_FDCWD, "/child", attr_clr=attr))
                for attr in (MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV)
            ),
            str(outcome(mount, None, "/child", None, MS_REMOUNT | MS_BIND | MS_NOSUID)),
            str(outcome(umount2, "/child", MNT_DETACH)),
        )

    kept = ({"/child": True}, "EPERM", "EPERM", "EPERM", "EINVAL")
    assert found == dict.fromkeys(steps, kept)


def written(*names: str) -> set[str]:
    """Open the files *names* for writing, which must not take long; return how that ended."""

    def write() -> set[str]:
        return {str(outcome(os.open, name, os.O_WRONLY | os.O_TRUNC)) for name in names}

    with started(write) as writer:
        assert writer.finished(20), "a writer is held up"
        return writer.result()


@foreign
@pytest.mark.rule("K14")
def test_refused_recursive_change_holds_nobody_up(scratch: Path) -> None:
    """A recursive change that would make a whole tree read-only, and is EPERM for one locked mount
    in it, changes none, and lets who writes to any of them go on."""
    top = tmpfs(scratch / "top", "file")
    for name in ("a", "a/below", "b", "z"):
        tmpfs(top / name, "file")
    mount(None, top / "b", None, MS_REMOUNT | MS_BIND | MS_NOSUID)
    become_foreign()
    enter(copy(top, recursive=True))
    before = mount_table()

    end = outcome(
        mount_setattr,
        AT_FDCWD,
        "/",
        AT_RECURSIVE,
        attr_set=MOUNT_ATTR_RDONLY,
        attr_clr=MOUNT_ATTR_NOSUID,
    )

    assert (end, mount_table()) == ("EPERM", before)
    assert written("/file", "/a/file", "/a/below/file", "/b/file", "/z/file") == {"success"}


@foreign
@pytest.mark.rule("K14")
def test_mount_in_use_for_writing_holds_the_change_up(scratch: Path) -> None:
    """The same change is EBUSY for a file in the tree that is open for writing: again none of the
    mounts is changed, and others may be written to; once it is closed, all are. No other change
    minds."""
    top = tmpfs(scratch / "top", "file")
    for name in ("a", "b", "z"):
        tmpfs(top / name, "file")
    become_foreign()
    enter(copy(top, recursive=True))
    before = mount_table()
    used = os.open("/b/file", os.O_WRONLY)

    def make_read_only() -> str:
        flags = AT_RECURSIVE
        return str(outcome(mount_setattr, AT_FDCWD, "/", flags, attr_set=MOUNT_ATTR_RDONLY))

    busy, after = make_read_only(), mount_table()
    assert written("/file", "/a/file", "/b/file", "/z/file") == {"success"}
    other = outcome(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, attr_set=MOUNT_ATTR_NODEV)
    os.close(used)

    assert (busy, after, make_read_only()) == ("EBUSY", before, "success")
    assert other == "success"
    assert {m.mnt_attr & MOUNT_ATTR_RDONLY for m in mount_table()} == {MOUNT_ATTR_RDONLY}


@foreign
@pytest.mark.rule("K14")
def test_change_of_one_mount_asks_nothing_of_others(scratch: Path) -> None:
    """A change that is not recursive is made though a mount below could not take part in it: one
    whose restriction is locked, or that is in use for writing."""
    top = tmpfs(scratch / "top", "file")
    tmpfs(top / "locked", flags=MS_NOSUID)
    tmpfs(top / "used", "file")
    become_foreign()
    enter(copy(top, recursive=True))
    with open("/used/file", "w"):
        end = outcome(
            mount_setattr,
            AT_FDCWD,
            "/",
            attr_set=MOUNT_ATTR_RDONLY,
            attr_clr=MOUNT_ATTR_NOSUID,
        )

    assert end == "success"
    read_only = {
        mount.mnt_point: bool(mount.mnt_attr & MOUNT_ATTR_RDONLY) for mount in mount_table()
    }
    assert read_only == {"/": True, "/locked": False, "/used": False}


@pytest.mark.rule("K14")
def test_what_is_no_mount_is_not_changed(caller: Caller, scratch: Path) -> None:
    """Of a directory that is no mount's root neither the attributes nor the type are changed, nor
    is a type that is none, or two: EINVAL."""
    top = tmpfs(scratch / "top")
    (top / "dir").mkdir()
    caller.act()
    enter(copy(top))
    before = mount_table()
    changes = {
        "attributes": partial(mount_setattr, AT_FDCWD, "/dir", attr_set=MOUNT_ATTR_NODEV),
        "type": partial(mount_setattr, AT_FDCWD, "/dir", propagation=MS_SHARED),
        "remount": partial(mount, None, "/dir", None, MS_REMOUNT | MS_BIND | MS_NODEV),
        "type by mount(2)": partial(mount, None, "/dir", None, MS_SHARED),
        "two types": partial(mount, None, "/", None, MS_SHARED | MS_SLAVE),
        "two types by mount_setattr(2)": partial(
            mount_setattr, AT_FDCWD, "/", propagation=MS_SHARED | MS_SLAVE
        ),
        "type and a flag": partial(mount, None, "/", None, MS_SHARED | MS_NODEV),
    }

    found = {name: outcome(change) for name, change in changes.items()}

    assert found == dict.fromkeys(changes, "EINVAL")
    assert mount_table() == before
