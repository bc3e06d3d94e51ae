# SPDX-License-Identifier: GPL-2.0-only
"""Waiting for changes of a namespace's mounts by poll(2) on a mountinfo file."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy_by, set_group
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.copies import Copy
from tests.utils.mounts.settle import settled
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.tasks.process import Task, holding, started
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOUNT_ATTR_NODEV,
    MS_BIND,
    MS_NOEXEC,
    MS_PRIVATE,
    MS_REMOUNT,
    MS_SHARED,
    PROPAGATION_TYPES,
)
from tests.utils.uapi.syscalls import mount, mount_setattr, pivot_root, umount2


def changed(mountinfo: int, seconds: float = 0) -> bool:
    """Return whether mounts have changed since *mountinfo* was last asked, or do in *seconds*."""
    poller = select.poll()
    poller.register(mountinfo, select.POLLPRI)
    return bool(poller.poll(seconds * 1000))


def state_of(task: Task[bool]) -> str:
    """Return the state of *task* (proc_pid_stat(5)): R running, S sleeping."""
    return Path(task.proc("stat")).read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def mountinfo_of(copied: Copy) -> int:
    """Open the mountinfo of a task inside *copied*."""
    with holding(copied.enter) as task:
        return os.open(task.proc("mountinfo"), os.O_RDONLY)


@pytest.mark.rule("N13")
def test_changes_wake(caller: Caller, scratch: Path) -> None:
    """Who polls the mountinfo of a task inside is told once of a mount, umount or pivot_root there,
    made inside or arrived from the source, and of a change of a mount's attributes, and of none
    that stays at the source."""
    top = tmpfs(scratch / "top", "place/file")
    shared = propagation(tmpfs(top / "shared", "place/file"), MS_SHARED)
    copied = copy_by(caller, top)
    mountinfo = mountinfo_of(copied)
    change = partial(mount_setattr, AT_FDCWD, attr_set=MOUNT_ATTR_NODEV)
    remounted = MS_REMOUNT | MS_BIND | MS_NOEXEC
    steps: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "mount inside": lambda: copied.inside(lambda: tmpfs(Path("/place"))),
        "mount at the source": lambda: tmpfs(top / "place"),
        "arrival": lambda: tmpfs(shared / "place"),
        "umount at the source": lambda: umount2(top / "place"),
        "departure": lambda: umount2(shared / "place"),
        "remount inside": lambda: copied.inside(lambda: mount(None, "/", None, remounted)),
        "mount_setattr inside": lambda: copied.inside(lambda: change("/")),
        "pivot_root inside": lambda: copied.inside(lambda: pivot_root("/place", "/place")),
        "umount inside": lambda: copied.inside(lambda: umount2("/", MNT_DETACH)),
    }

    told = {}
    for name, step in steps.items():
        step()
        told[name] = changed(mountinfo), changed(mountinfo)

    awake, quiet = (True, False), (False, False)
    assert told == {
        "nothing": quiet,
        "mount inside": awake,
        "mount at the source": quiet,
        "arrival": awake,
        "umount at the source": quiet,
        "departure": awake,
        "remount inside": awake,
        "mount_setattr inside": awake,
        "pivot_root inside": awake,
        "umount inside": awake,
    }


@pytest.mark.rule("N13")
def test_sleepers_are_woken(caller: Caller, scratch: Path) -> None:
    """Who sleeps in poll(2) is woken by a mount inside and by an umount, and need not ask again."""
    copied = copy_by(caller, tmpfs(scratch / "top", "place/file"))
    mountinfo = mountinfo_of(copied)
    steps: dict[str, Callable[[], object]] = {
        "mount": lambda: tmpfs(Path("/place")),
        "umount": lambda: umount2("/place"),
    }

    woken = {}
    for name, step in steps.items():
        changed(mountinfo)  # takes away what the step before has left
        with started(partial(changed, mountinfo, seconds=20)) as sleeper:
            asleep = settled(partial(state_of, sleeper), "S")
            copied.inside(step)
            woken[name] = asleep, sleeper.finished(5)

    assert woken == dict.fromkeys(steps, ("S", True))


@pytest.mark.rule("N13")
@fixes.POLLERS_OF_TYPES
def test_changes_of_the_type_wake(caller: Caller, scratch: Path) -> None:
    """Who polls is told once of each propagation type that mount(2) gives to a mount."""
    copied = copy_by(caller, tmpfs(scratch / "top"))
    mountinfo = mountinfo_of(copied)

    told = {}
    for name, kind in PROPAGATION_TYPES.items():
        copied.inside(partial(propagation, Path("/"), kind))
        told[name] = changed(mountinfo), changed(mountinfo)

    assert told == dict.fromkeys(PROPAGATION_TYPES, (True, False))


@pytest.mark.rule("N13")
@fixes.POLLERS_OF_TYPES
def test_joining_a_group_wakes(caller: Caller, scratch: Path) -> None:
    """Who polls is told once of a mount that joins the group of another, and of no refused try."""
    top = tmpfs(scratch / "top", "dir/file")
    for name in ("shared", "private"):
        propagation(bind(top / "dir", top / name), MS_PRIVATE)
    propagation(top / "shared", MS_SHARED)
    copied = copy_by(caller, top)
    mountinfo = mountinfo_of(copied)

    def join() -> Outcome:
        group, joins = (os.open(path, os.O_PATH) for path in ("/shared", "/private"))
        return outcome(set_group, group, joins)

    told = [(copied.inside(join), changed(mountinfo), changed(mountinfo)) for _ in range(2)]

    assert told == [("success", True, False), ("EINVAL", False, False)]
