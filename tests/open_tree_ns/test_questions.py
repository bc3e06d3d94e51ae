# SPDX-License-Identifier: GPL-2.0-only
"""That nothing is held by what was asked of a namespace, done or refused inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import clone, copy
from tests.utils.expect import outcome
from tests.utils.mounts.trees import created, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.uapi.constants import AT_FDCWD, MNT_DETACH, MS_BIND
from tests.utils.uapi.inotify import inotify_watch, is_gone
from tests.utils.uapi.nsfs import mnt_get_info, ns_id
from tests.utils.uapi.statmount import listmount, mount_table, statmount
from tests.utils.uapi.syscalls import (
    fsmount,
    mount,
    mount_setattr,
    move_mount,
    pivot_root,
    umount2,
)


def bind_root_on_itself() -> None:
    """Bind "/" on "/" again and again, the last time on a mount that lies on the root."""
    for _ in range(3):
        mount("/", "/", None, MS_BIND)


#: What can be asked from outside of the namespace *fd* with the mount *top*, and told by.
QUESTIONS: dict[str, Callable[[int, int], object]] = {
    "listmount by descriptor": lambda fd, _: listmount(ns_fd=fd),
    "listmount by id": lambda fd, _: listmount(ns_id=ns_id(fd)),
    "listmount below the mount": lambda fd, top: listmount(top, ns_fd=fd),
    "listmount of none": lambda fd, _: outcome(listmount, 1 << 62, ns_fd=fd),
    "statmount by descriptor": lambda fd, top: statmount(top, ns_fd=fd),
    "statmount by id": lambda fd, top: statmount(top, ns_id=ns_id(fd)),
    "statmount of none": lambda fd, _: outcome(statmount, 1 << 62, ns_fd=fd),
    "NS_MNT_GET_INFO": lambda fd, _: mnt_get_info(fd),
}
#: What can be asked, copied, or refused, inside.
INSIDE: dict[str, Callable[[], object]] = {
    "listmount and statmount": mount_table,
    "copy": lambda: os.close(copy("/", recursive=True)),
    "clone": lambda: os.close(clone("/", recursive=True)),
    "mount and umount2": lambda: umount2(tmpfs(Path("/dir"))),
    "binds of the root on itself": bind_root_on_itself,
    "umount2 of a directory": partial(outcome, umount2, "/dir", MNT_DETACH),
    "umount2 of a mount in use": partial(outcome, umount2, "/"),
    "mount_setattr of a directory": partial(outcome, mount_setattr, AT_FDCWD, "/dir", attr_set=1),
    "move_mount of a directory": partial(outcome, move_mount, AT_FDCWD, "/dir", AT_FDCWD, "/", 0),
    "move_mount to no place": partial(outcome, move_mount, AT_FDCWD, "/", AT_FDCWD, "/no", 0),
    "pivot_root to a directory": partial(outcome, pivot_root, "/dir", "/dir"),
    "mount of what there is not": partial(outcome, mount, "/no", "/dir", None, MS_BIND),
    "bind below itself": partial(outcome, mount, "/", "/dir/no", None, MS_BIND),
    "copy of no directory": partial(outcome, copy, "/no"),
}


@pytest.mark.rule("T1")
@pytest.mark.needs("inotify")
def test_questions_hold_nothing() -> None:
    """Whatever is asked of it, copied or refused inside, its file system ends with its holders."""
    kept = []
    with NamespaceThread() as thread:

        def ask_inside(question: Callable[[], object], fd: int, _: int) -> None:
            thread.call_in(fd, question)

        asked = {name: partial(ask_inside, question) for name, question in INSIDE.items()}
        questions: dict[str, Callable[[int, int], object]] = {**QUESTIONS, **asked}
        for name, ask in questions.items():
            context = created()
            tree = fsmount(context)
            os.close(context)
            os.mkdir("dir", dir_fd=tree)
            watch = inotify_watch(f"/proc/self/fd/{tree}")
            fd = copy("", dirfd=tree)
            os.close(tree)
            ask(fd, listmount(ns_fd=fd)[0])
            os.close(fd)
            if not is_gone(watch):
                kept.append(name)
            os.close(watch)

    assert kept == []
