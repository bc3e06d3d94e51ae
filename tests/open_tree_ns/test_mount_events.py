# SPDX-License-Identifier: GPL-2.0-only
"""The mount events of a new namespace, watched by its handle (fanotify, FAN_MARK_MNTNS)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter
from tests.utils.expect import outcome
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.process import in_child
from tests.utils.uapi.caps import keep_only
from tests.utils.uapi.constants import CLONE_NEWUSER, MNT_DETACH, MS_SHARED, MS_SLAVE
from tests.utils.uapi.fanotify import (
    FAN_MNT_ATTACH,
    FAN_MNT_DETACH,
    mount_events,
    mount_watch,
    watch_also,
)
from tests.utils.uapi.nsfs import (
    current_mnt_ns,
    exists,
    ns_id,
)
from tests.utils.uapi.statmount import listmount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import mount, pivot_root, setns, umount2


@pytest.mark.rule("R8")
@pytest.mark.needs("mount events")
def test_mount_events(caller: Caller, scratch: Path) -> None:
    """fanotify marks the handle (FAN_MARK_MNTNS): everyone who watches hears once of each mount
    attached and detached inside, by its id, and of nothing that happens in another namespace."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    fd, other = copy(leaf), copy(leaf)
    first, second = mount_watch(fd), mount_watch(fd, other)

    def heard() -> list[object]:
        return [mount_events(first, 1), mount_events(second, 1)]

    with NamespaceThread() as thread:
        thread.enter(fd)
        thread.run(lambda: mount("tmpfs", "/", "tmpfs"))
        attached = listmount(ns_fd=fd)[-1]
        assert heard() == [[(FAN_MNT_ATTACH, attached)]] * 2
        thread.leave()
        thread.enter(fd)  # its root is now what was mounted there
        thread.run(lambda: umount2("/", MNT_DETACH))
        assert heard() == [[(FAN_MNT_DETACH, attached)]] * 2
        thread.enter(other)
        thread.run(lambda: mount("tmpfs", "/", "tmpfs"))
        attached = listmount(ns_fd=other)[-1]
        assert mount_events(second, 1) == [(FAN_MNT_ATTACH, attached)]
        assert mount_events(first) == []


@pytest.mark.rule("R8")
@pytest.mark.needs("mount events")
def test_mount_events_of_the_source(scratch: Path) -> None:
    """The source's own mounts are no event of the new namespace, and neither is its making an
    event of the source; a mount that propagates into it is one."""
    private = tmpfs(scratch / "private")
    shared = propagation(tmpfs(scratch / "shared"), MS_SHARED)
    source = mount_watch(current_mnt_ns())
    fd, fd_shared = copy(private), copy(shared)
    watch, watch_shared = mount_watch(fd), mount_watch(fd_shared)
    assert mount_events(source) == []

    tmpfs(private / "below")
    tmpfs(shared / "below")

    assert [event for event, _ in mount_events(source, 1)] == [FAN_MNT_ATTACH] * 2
    propagated = listmount(ns_fd=fd_shared)[-1]
    assert mount_events(watch_shared, 1) == [(FAN_MNT_ATTACH, propagated)]
    assert mount_events(watch) == []


@pytest.mark.rule("R13")
@pytest.mark.needs("mount events", "user namespace")
def test_who_may_watch(scratch: Path) -> None:
    """To watch takes CAP_SYS_ADMIN over the owner of the namespace, and over the user namespace in
    which the group was made: EPERM for whoever lacks either."""
    leaf = tmpfs(scratch / "leaf")
    fd = copy(leaf)
    foreign = copy_by(Caller.FOREIGN, leaf)
    group = mount_watch()

    def in_its_owner(act: Callable[[], object]) -> str:
        def run() -> str:
            setns(foreign.userns_fd, CLONE_NEWUSER)
            return str(outcome(act))

        return in_child(run)

    def unprivileged() -> str:
        keep_only()
        return str(outcome(watch_also, group, fd))

    found = {
        "own": str(outcome(watch_also, group, fd)),
        "from above": str(outcome(watch_also, group, foreign.ns_fd)),
        "its owner": in_its_owner(partial(mount_watch, foreign.ns_fd)),
        "from below": in_its_owner(partial(mount_watch, fd)),
        "group from above": in_its_owner(partial(watch_also, group, foreign.ns_fd)),
        "unprivileged": in_child(unprivileged),
    }

    assert found == {
        "own": "success",
        "from above": "success",
        "its owner": "success",
        "from below": "EPERM",
        "group from above": "EPERM",
        "unprivileged": "EPERM",
    }


@pytest.mark.rule("R13")
@pytest.mark.needs("mount events")
@pytest.mark.usefixtures("unlocked")
def test_events_of_moves(scratch: Path) -> None:
    """pivot_root(2) moves both roots, and each is reported once, as detached and attached; so is a
    mount that slides down when what it lay on is unmounted from outside."""
    top = tmpfs(scratch / "top")
    (top / "new").mkdir()
    shared = propagation(tmpfs(top / "shared"), MS_SHARED)
    tmpfs(shared / "below")
    fd = copy(top, recursive=True)
    here = current_mnt_ns()
    enter(fd)
    mount(None, "/shared", None, MS_SLAVE)
    new = tmpfs(Path("/new"))
    (new / "old").mkdir()
    slides = mnt_id_of(tmpfs(Path("/shared/below")))
    root, top_id = mnt_id_of("/"), mnt_id_of(new)
    below = next(m.mnt_parent_id for m in mount_table() if m.mnt_id == slides)
    watch = mount_watch(fd)
    moved = FAN_MNT_ATTACH | FAN_MNT_DETACH

    pivot_root(new, new / "old")
    pivoted = sorted(mount_events(watch), key=lambda event: event[1])
    enter(here)
    umount2(shared / "below", MNT_DETACH)
    slid = sorted(mount_events(watch), key=lambda event: event[1])

    assert pivoted == [(moved, root), (moved, top_id)]
    assert slid == [(FAN_MNT_DETACH, below), (moved, slides)]


@pytest.mark.rule("BL6", "R8")
@fixes.MARKS_IN_PROCESS_CONTEXT
@pytest.mark.needs("mount events")
def test_watches_in_every_order(caller: Caller, scratch: Path) -> None:
    """Handle, watches and a task inside may go in any order, with events read or not: each mount
    is reported once, and the namespace lives as long as handle and task do."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    holders = ["handle", "task", "watch", "unread watch"]
    turns = [holders[count:] + holders[:count] for count in range(len(holders))]
    orders = [*turns, *(turn[::-1] for turn in turns)]
    wrong = []
    with NamespaceThread() as thread:
        for order in orders:
            fd = copy(leaf)
            number = ns_id(fd)
            watches = mount_watch(fd), mount_watch(fd)
            thread.call_in(fd, partial(mount, "tmpfs", "/", "tmpfs"))
            attached = listmount(ns_fd=fd)[-1]
            thread.call_in(fd, partial(umount2, "/", MNT_DETACH))
            wanted = [(FAN_MNT_ATTACH, attached), (FAN_MNT_DETACH, attached)]
            thread.enter(fd)
            end: dict[str, Callable[[], None]] = {
                "handle": partial(os.close, fd),
                "task": thread.leave,
                "watch": partial(os.close, watches[0]),
                "unread watch": partial(os.close, watches[1]),
            }
            if mount_events(watches[0], 1) != wanted:
                wrong.append("not one event for each: attached, detached")
            left = [*order]
            for name in order:
                end[name]()
                left.remove(name)
                if "handle" in left or "task" in left:
                    if not exists(number):
                        wrong.append(f"gone with {left} left")
                elif not gone(number):
                    wrong.append(f"still there with {left} left")
    assert wrong == []
