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
from tests.open_tree_ns.calls import copy
from tests.utils.mounts.settle import gone
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_SHARED,
)
from tests.utils.uapi.fanotify import FAN_MNT_ATTACH, FAN_MNT_DETACH, mount_events, mount_watch
from tests.utils.uapi.nsfs import (
    current_mnt_ns,
    exists,
    ns_id,
)
from tests.utils.uapi.statmount import listmount
from tests.utils.uapi.syscalls import mount, umount2


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
