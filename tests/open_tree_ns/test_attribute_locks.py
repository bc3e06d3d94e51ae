# SPDX-License-Identifier: GPL-2.0-only
"""Mount attributes of a copy: a foreign caller may add restrictions, and take off only its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.trees import bind, tmpfs
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import become_foreign, enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_BIND,
    MS_NODEV,
    MS_NOSUID,
    MS_REMOUNT,
    MountAttr,
)
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import attach, mount, mount_setattr

#: The four that restrict, each by the name of the directory whose mount has it.
RESTRICTIONS = {
    "rdonly": MOUNT_ATTR_RDONLY,
    "nosuid": MOUNT_ATTR_NOSUID,
    "nodev": MOUNT_ATTR_NODEV,
    "noexec": MOUNT_ATTR_NOEXEC,
}
RELATIME = MountAttr(0)
#: Every access-time mode a mount can have.
ATIMES = {
    "relatime": RELATIME,
    "noatime": MOUNT_ATTR_NOATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "relatime_nodir": RELATIME | MOUNT_ATTR_NODIRATIME,
    "noatime_nodir": MOUNT_ATTR_NOATIME | MOUNT_ATTR_NODIRATIME,
    "strictatime_nodir": MOUNT_ATTR_STRICTATIME | MOUNT_ATTR_NODIRATIME,
}
ALL = sum(RESTRICTIONS.values(), MountAttr(0))


def set_attr(path: str | Path, attr: MountAttr) -> None:
    """Add *attr* to the mount at *path*."""
    mount_setattr(AT_FDCWD, path, attr_set=attr)


def clear_attr(path: str | Path, attr: MountAttr) -> None:
    """Take *attr* off the mount at *path*."""
    mount_setattr(AT_FDCWD, path, attr_clr=attr)


def set_atime(path: str | Path, mode: MountAttr) -> None:
    """Give the mount at *path* this access-time mode, and no other."""
    mount_setattr(AT_FDCWD, path, attr_set=mode, attr_clr=MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME)


def attr_of(path: str | Path) -> MountAttr:
    """Return the attributes of the mount at *path*."""
    return statmount(mnt_id_of(path)).mnt_attr


def restricted_tree(scratch: Path) -> Path:
    """Make a mount with all four restrictions, on it one mount for each, and one with none."""
    top = tmpfs(scratch / "top")
    (top / "place").mkdir()
    for name, attr in RESTRICTIONS.items():
        set_attr(tmpfs(top / name), attr)
    tmpfs(top / "plain")
    (top / "proc").mkdir()
    set_attr(top, ALL)
    return top


def enter_copy(top: Path, caller: Caller) -> None:
    """Become *caller*, make a recursive copy of *top*, and enter it."""
    caller.act()
    enter(copy(top, recursive=True))


@pytest.mark.rule("K2")
@pytest.mark.parametrize("call", ["mount_setattr", "remount"])
def test_restrictions_set_before(call: str, caller: Caller, scratch: Path) -> None:
    """What restricts a mount when it is copied cannot be taken off a foreign copy: EPERM, for the
    top and for each child; off an owner's copy it can."""
    enter_copy(restricted_tree(scratch), caller)
    places = {**{f"/{name}": attr for name, attr in RESTRICTIONS.items()}, "/": ALL}
    before = {path: attr_of(path) for path in places}

    def lift(path: str, attr: MountAttr) -> None:
        if call == "mount_setattr":
            clear_attr(path, attr)
        else:
            # A mount(2) names all flags the mount shall keep: here none.
            mount(None, path, None, MS_REMOUNT | MS_BIND)

    found = {path: outcome(lift, path, attr) for path, attr in places.items()}

    assert before == places
    if caller.foreign:
        assert found == dict.fromkeys(places, "EPERM")
        assert {path: attr_of(path) for path in places} == before
    else:
        assert found == dict.fromkeys(places, "success")
        assert {path: attr_of(path) for path in places} == dict.fromkeys(places, MountAttr(0))


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2", "U5")
def test_remount_of_the_file_system(scratch: Path) -> None:
    """A locked restriction cannot be taken off by the way of remounting the whole file system
    either, by a foreign caller that may do that: one from above, since it has power over whoever
    mounted it. With all restrictions named again the remount is allowed."""

    def below() -> None:
        enter_new_userns()
        enter_new_mount_ns()
        tmpfs(scratch / "top", flags=MS_NOSUID | MS_NODEV)

    with holding(below) as other:
        enter(os.open(other.proc("ns/mnt"), os.O_RDONLY))
        enter(copy(scratch / "top", recursive=True))
        before = attr_of("/")
        found = {
            kept: outcome(mount, None, "/", None, MS_REMOUNT | flags)
            for kept, flags in {
                "none": MS_REMOUNT,
                "nosuid": MS_NOSUID,
                "nodev": MS_NODEV,
                "both": MS_NOSUID | MS_NODEV,
            }.items()
        }

    assert before == MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    assert found == {"none": "EPERM", "nosuid": "EPERM", "nodev": "EPERM", "both": "success"}
    assert attr_of("/") == before


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2")
def test_each_restriction_is_locked_alone(scratch: Path) -> None:
    """Of four restrictions on one foreign copy none can be lifted alone, and a recursive change
    that meets one locked mount changes none."""
    enter_copy(restricted_tree(scratch), Caller.FOREIGN)
    set_attr("/plain", MOUNT_ATTR_NODEV)
    before = mount_table()

    found = {
        **{name: outcome(clear_attr, "/", attr) for name, attr in RESTRICTIONS.items()},
        "recursive": outcome(mount_setattr, AT_FDCWD, "/", AT_RECURSIVE, attr_clr=MOUNT_ATTR_NODEV),
    }

    assert found == dict.fromkeys([*RESTRICTIONS, "recursive"], "EPERM")
    assert mount_table() == before


@pytest.mark.rule("K2")
def test_restrictions_set_after(caller: Caller, scratch: Path) -> None:
    """In either copy each restriction can be added, and what was added inside be taken off."""
    enter_copy(restricted_tree(scratch), caller)
    for attr in RESTRICTIONS.values():
        set_attr("/plain", attr)
    assert attr_of("/plain") == ALL

    found = {name: outcome(clear_attr, "/plain", attr) for name, attr in RESTRICTIONS.items()}

    assert found == dict.fromkeys(RESTRICTIONS, "success")
    assert attr_of("/plain") == MountAttr(0)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2")
def test_adding_to_a_locked_mount(scratch: Path) -> None:
    """A foreign copy with one locked restriction takes others, and gives those back but not the
    locked one."""
    enter_copy(restricted_tree(scratch), Caller.FOREIGN)
    set_attr("/nosuid", ALL)

    found = {name: outcome(clear_attr, "/nosuid", attr) for name, attr in RESTRICTIONS.items()}

    assert found == {**dict.fromkeys(RESTRICTIONS, "success"), "nosuid": "EPERM"}
    assert attr_of("/nosuid") == MOUNT_ATTR_NOSUID


@pytest.mark.rule("K2")
def test_access_time_modes(caller: Caller, scratch: Path) -> None:
    """The access-time mode of a foreign copy stays what it is: each change to another is EPERM, in
    whatever direction, also of the directories' one; an owner may change each to each."""
    top = tmpfs(scratch / "top")
    for name, mode in ATIMES.items():
        set_atime(tmpfs(top / name), mode)
    enter_copy(top, caller)

    found = {}
    for name, mode in ATIMES.items():
        for other, change in ATIMES.items():
            found[name, other] = outcome(set_atime, f"/{name}", change)
            if not caller.foreign:
                assert attr_of(f"/{name}") == change
                set_atime(f"/{name}", mode)

    refused = "EPERM" if caller.foreign else "success"
    assert found == {
        (name, other): "success" if name == other else refused
        for name in ATIMES
        for other in ATIMES
    }
    assert {name: attr_of(f"/{name}") for name in ATIMES} == ATIMES


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2", "K1")
def test_locks_go_with_every_copy(scratch: Path) -> None:
    """The locked attributes of a foreign copy are locked in each copy of it: a bind mount, a
    detached tree, and a namespace made from inside; what its owner added stays free there."""
    enter_copy(restricted_tree(scratch), Caller.FOREIGN)
    set_attr("/rdonly", MOUNT_ATTR_NODEV)

    def tried(path: str) -> dict[str, str]:
        return {
            "locked": outcome(clear_attr, path, MOUNT_ATTR_RDONLY),
            "added": outcome(clear_attr, path, MOUNT_ATTR_NODEV),
            "access time": outcome(set_atime, path, MOUNT_ATTR_NOATIME),
        }

    copies = {}
    bind(Path("/rdonly"), Path("/place"))
    copies["bind"] = tried("/place")
    attach(clone("/rdonly"), "/place")
    copies["detached"] = tried("/place")
    enter(copy("/rdonly", recursive=True))
    copies["namespace"] = tried("/")

    rule = {"locked": "EPERM", "added": "success", "access time": "EPERM"}
    assert copies == dict.fromkeys(["bind", "detached", "namespace"], rule)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2")
def test_detached_clone_of_a_locked_mount(scratch: Path) -> None:
    """Detaching a copy does not free it: a locked attribute is EPERM on the descriptor too."""
    enter_copy(restricted_tree(scratch), Caller.FOREIGN)
    tree = clone("/noexec")
    found = outcome(mount_setattr, tree, "", AT_EMPTY_PATH, attr_clr=MOUNT_ATTR_NOEXEC)
    assert found == "EPERM"
    attach(tree, "/place")
    assert attr_of("/place") == MOUNT_ATTR_NOEXEC


@pytest.mark.needs("user namespace")
@pytest.mark.rule("K2")
@pytest.mark.needs("nested user namespace")
def test_foreign_copy_of_a_copy_locks_what_was_added(scratch: Path) -> None:
    """What the owner of a foreign copy added is locked for the next foreign caller."""
    top = restricted_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)  # for the id maps
    enter_copy(top, Caller.FOREIGN)
    set_attr("/plain", MOUNT_ATTR_NODEV)
    assert outcome(clear_attr, "/plain", MOUNT_ATTR_NODEV) == "success"
    set_attr("/plain", MOUNT_ATTR_NODEV)
    become_foreign()
    enter(copy("/", recursive=True))
    assert outcome(clear_attr, "/plain", MOUNT_ATTR_NODEV) == "EPERM"


@pytest.mark.rule("K11")
def test_nosymfollow_is_not_locked(caller: Caller, scratch: Path) -> None:
    """nosymfollow, which comes along, may be taken off again inside, by a foreign caller too: what
    it keeps from being followed is nothing that was hidden."""
    top = tmpfs(scratch / "top", "file")
    (top / "link").symlink_to("file")
    set_attr(top, MOUNT_ATTR_NOSYMFOLLOW)
    caller.act()
    enter(copy(top))
    before = outcome(os.stat, "/link")

    mount_setattr(AT_FDCWD, "/", attr_clr=MOUNT_ATTR_NOSYMFOLLOW)

    assert before == "ELOOP"
    assert os.stat("/link") == os.stat("/file")
