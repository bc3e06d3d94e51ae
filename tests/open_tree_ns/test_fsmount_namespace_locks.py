# SPDX-License-Identifier: GPL-2.0-only
"""Whose a namespace made by fsmount(2) is, what is locked in it, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import Outcome, outcome
from tests.utils.model.prediction import base_of
from tests.utils.mounts.limits import (
    allow_mnt_namespaces,
    descriptor_table_full,
    enter_counted_userns,
)
from tests.utils.mounts.settle import gone, settled, within_limit
from tests.utils.mounts.trees import created, fresh_tmpfs, tmpfs
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.process import holding, in_child
from tests.utils.tasks.userns import (
    as_foreign,
    become_foreign,
    enter_new_mount_ns,
    enter_new_userns,
)
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    FSMOUNT_CLOEXEC,
    FSMOUNT_NAMESPACE,
    MNT_DETACH,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_RDONLY,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.inotify import inotify_watch, is_gone
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info, ns_get_userns, ns_id, ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    attach,
    fsmount,
    mount,
    mount_setattr,
    umount2,
    unshare,
)

pytestmark = pytest.mark.needs("FSMOUNT_NAMESPACE")

MAKE = FSMOUNT_NAMESPACE | FSMOUNT_CLOEXEC
LOCKABLE = (MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC)


def changes_of_the_root() -> dict[str, str]:
    """Try to take each attribute off "/" alone, to change its access times, and to detach it."""
    clear = partial(mount_setattr, AT_FDCWD, "/")
    found: dict[str, str] = {str(attr.name): outcome(clear, attr_clr=attr) for attr in LOCKABLE}
    found["access times"] = outcome(clear, attr_clr=MOUNT_ATTR__ATIME)
    found["MOUNT_ATTR_NOSYMFOLLOW"] = outcome(clear, attr_clr=MOUNT_ATTR_NOSYMFOLLOW)
    found["umount2"] = outcome(umount2, "/", MNT_DETACH)
    return found


def expected_changes(*, restricted: bool, locked: bool) -> dict[str, str]:
    """State the rule for :func:`changes_of_the_root` of a mount that has all attributes."""
    attributes = [*(str(attr.name) for attr in LOCKABLE), "access times"]
    return {
        **dict.fromkeys(attributes, "EPERM" if restricted else "success"),
        "MOUNT_ATTR_NOSYMFOLLOW": "success",
        "umount2": "EINVAL" if locked else "success",
    }


EVERYTHING = sum(LOCKABLE) | MOUNT_ATTR_NOATIME | MOUNT_ATTR_NOSYMFOLLOW


@pytest.mark.rule("M6", "M4")
@pytest.mark.usefixtures("unlocked")
@pytest.mark.upstream("fsmount_ns_userns.umount_succeeds")
def test_locks(caller: Caller) -> None:
    """For a foreign caller the mount is locked to its place, and each restriction it was made with
    too, as in a copy; for an owner nothing is."""
    fs = created()
    caller.act()

    enter(fsmount(fs, MAKE, EVERYTHING))

    assert changes_of_the_root() == expected_changes(
        restricted=caller.foreign, locked=caller.foreign
    )


@pytest.mark.rule("M6", "M4")
@pytest.mark.needs("user namespace")
@pytest.mark.upstream(
    "fsmount_ns_userns.create_in_userns",
    "fsmount_ns_userns.setns_in_userns",
    "fsmount_ns_userns.umount_fails_einval",
)
def test_locks_below_a_locked_root() -> None:
    """Where the root of the owner's own namespace is locked, which a mount namespace made with its
    user namespace has, the new mount is locked to its place, but not its attributes."""
    enter_new_userns()
    enter_new_mount_ns()

    fd = fsmount(created(), MAKE, EVERYTHING)
    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    enter(fd)

    assert changes_of_the_root() == expected_changes(restricted=False, locked=True)


@pytest.mark.rule("M6", "M4")
@pytest.mark.needs("user namespace")
def test_caller_from_above() -> None:
    """A caller in a mount namespace that a user namespace below its own owns is foreign as well:
    the namespace is its own, and everything in it locked."""
    fs = created()

    def below() -> None:
        enter_new_userns()
        enter_new_mount_ns()

    with holding(below) as other:
        enter(os.open(other.proc("ns/mnt"), os.O_RDONLY))
        assert ns_inode(ns_get_userns(current_mnt_ns())) != ns_inode("/proc/self/ns/user")
        fd = fsmount(fs, MAKE, EVERYTHING)

    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    enter(fd)
    assert changes_of_the_root() == expected_changes(restricted=True, locked=True)


@pytest.mark.rule("M6")
@pytest.mark.needs("user namespace")
def test_more_restrictions_come_and_go() -> None:
    """Restrictions that a foreign caller adds inside it may take off again, and what it mounts
    there is its own."""
    fs = created()
    become_foreign()
    enter(fsmount(fs, MAKE))
    change = partial(mount_setattr, AT_FDCWD, "/")

    added = [outcome(change, attr_set=attr) for attr in LOCKABLE]
    cleared = [outcome(change, attr_clr=attr) for attr in LOCKABLE]
    tmpfs(Path("/own"))

    assert (added, cleared) == (["success"] * 4, ["success"] * 4)
    assert outcome(umount2, "/own") == "success"
    assert outcome(umount2, "/", MNT_DETACH) == "EINVAL"


@pytest.mark.rule("M7")
@pytest.mark.usefixtures("unlocked")
def test_propagation_of_its_base(caller: Caller) -> None:
    """The base is in the peer group of the caller's, or a foreign caller's its slave; the mount
    itself is private and arrives nowhere. What is mounted on the caller's root arrives beneath."""
    home, fs = copy("", dirfd=fresh_tmpfs()), created()
    enter(home)
    umount2("/", MNT_DETACH)
    enter(home)
    mount(None, "/", None, MS_SHARED)
    here = statmount(mnt_id_of("/"))

    def make() -> list[int]:
        if caller.foreign:
            unshare(CLONE_NEWUSER)  # without id maps, since there is no /proc here
        return [fsmount(fs, MAKE)]

    (fd,) = fds_from_child(make)

    base = base_of(fd)
    (top,) = mount_table(ns_fd=fd)
    group = here.mnt_peer_group
    assert (base.mnt_propagation, base.mnt_peer_group, base.mnt_master) == (
        (MS_SLAVE, 0, group) if caller.foreign else (MS_SHARED, group, 0)
    )
    assert (top.fs_type, top.mnt_propagation) == ("tmpfs", MS_PRIVATE)
    assert mount_table() == [here]

    attach(fresh_tmpfs(), "/")
    parents = {mount.mnt_id: mount.mnt_parent_id for mount in mount_table(ns_fd=fd)}
    (arrived,) = parents.keys() - {top.mnt_id}
    assert parents == {arrived: base.mnt_id, top.mnt_id: arrived}


@pytest.mark.rule("M8")
@pytest.mark.needs("user namespace", "proc in a user namespace")
def test_locks_of_the_visible_proc_are_inherited(scratch: Path) -> None:
    """Where the proc that makes another one admissible is read-only the new one must be too, and
    have the same mode of access time (EPERM); and it stays so in its namespace."""
    top = tmpfs(scratch / "top")
    (top / "proc").mkdir()
    mount("proc", top / "proc", "proc", MS_RDONLY)
    attributes = {
        "writable": 0,
        "other access times": MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME,
        "alike": int(MOUNT_ATTR_RDONLY),
    }

    def ask() -> dict[str, str]:
        found: dict[str, Outcome] = {
            name: outcome(fsmount, created("proc"), MAKE, attr) for name, attr in attributes.items()
        }
        made = found["alike"].result
        assert isinstance(made, int), found["alike"]
        enter(made)
        clearing = outcome(mount_setattr, AT_FDCWD, "/", attr_clr=MOUNT_ATTR_RDONLY)
        return {**found, "made writable inside": clearing}

    def act() -> dict[str, str]:
        unshare(CLONE_NEWPID)
        enter(copy(top, recursive=True))
        return in_child(ask)

    assert in_child(as_foreign(act)) == {
        "writable": "EPERM",
        "other access times": "EPERM",
        "alike": "success",
        "made writable inside": "EPERM",
    }


@pytest.mark.rule("M9", "M10")
@pytest.mark.needs("user namespace", "sysctl")
def test_limit() -> None:
    """It counts against user.max_mnt_namespaces, as detached mounts do: ENOSPC where there is no
    room. Refused for want of room the file system is used up all the same: then it is EBUSY."""
    used = enter_counted_userns()
    refused, full, spare = created(), created(), created()
    allow_mnt_namespaces(used + 1)

    fd = within_limit(partial(fsmount, created(), MAKE))
    found = {
        "at the limit": outcome(fsmount, refused, MAKE),
        "a detached mount": outcome(fsmount, spare),
        "a copy": outcome(copy, "/", recursive=True),
    }
    number = ns_id(fd)
    os.close(fd)
    assert gone(number)
    with descriptor_table_full():
        found["full table"] = outcome(fsmount, full, MAKE)
    again = [outcome(fsmount, fs, MAKE) for fs in (refused, full)]
    fd = within_limit(partial(fsmount, created(), MAKE))

    assert found == {
        "at the limit": "ENOSPC",
        "a detached mount": "ENOSPC",
        "a copy": "ENOSPC",
        "full table": "EMFILE",
    }
    assert again == ["EBUSY", "EBUSY"]
    assert mnt_get_info(fd).nr_mounts == 1


@pytest.mark.rule("M11")
@pytest.mark.needs("inotify")
def test_ends_with_its_last_holder(caller: Caller) -> None:
    """The file system is there as long as the namespace, which a descriptor or a task holds, and
    ends with it."""
    fs = created()
    caller.act()
    fd = fsmount(fs, MAKE)
    os.close(fs)
    with NamespaceThread() as thread:
        watch = thread.call_in(fd, lambda: inotify_watch("/"))
        number = ns_id(fd)
        thread.enter(fd)
        os.close(fd)
        held = is_gone(watch, seconds=0)
        thread.leave()
        assert (held, is_gone(watch), gone(number)) == (False, True, True)


def above_the_limit(fs: int) -> int:
    """Make the call with no room for another mount namespace."""
    allow_mnt_namespaces(0)
    return fsmount(fs, MAKE)


@pytest.mark.rule("M11")
@pytest.mark.needs("nested user namespace", "sysctl")
def test_nothing_is_left() -> None:
    """Neither of a namespace that has ended nor of a refused call anything is left: the user
    namespace that its file system belonged to, which is counted, goes with the last task in it."""
    enter_counted_userns()
    limit = os.open("/proc/sys/user/max_user_namespaces", os.O_WRONLY)
    os.pwrite(limit, b"1", 0)
    calls: dict[str, Callable[[int], object]] = {
        "made": lambda fs: os.close(fsmount(fs, MAKE)),
        "above the limit": above_the_limit,
        # That it may be made shows that those before have gone.
        "made again": lambda fs: os.close(fsmount(fs, MAKE)),
    }

    def once(call: Callable[[int], object]) -> str:
        enter_new_userns()
        enter_new_mount_ns()
        return outcome(call, created())

    def end_of(call: Callable[[int], object]) -> str:
        try:
            return in_child(partial(once, call))
        except OSError as error:
            return f"no user namespace: {error}"

    rule = {
        "made": "success",
        "above the limit": "ENOSPC",
        "made again": "success",
    }
    found = {name: settled(partial(end_of, call), rule[name]) for name, call in calls.items()}

    assert found == rule
