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
from tests.utils.uapi.constants import AT_FDCWD, MNT_DETACH, MOUNT_ATTR_RDONLY, MS_BIND
from tests.utils.uapi.inotify import inotify_watch, is_gone
from tests.utils.uapi.nsfs import mnt_get_info, ns_id
from tests.utils.uapi.statmount import listmount, mount_table, statmount
from tests.utils.uapi.syscalls import (
    closing_fd,
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


def umount_in_use() -> None:
    """Unmount what is open."""
    tmpfs(Path("/dir"))
    with closing_fd(os.open("/dir", os.O_PATH)):
        umount2("/dir")


def pivot_root_for_nothing() -> None:
    """Put the root where it is, with another mount in its place."""
    pivot_root(tmpfs(Path("/dir")), "/")


#: What can be asked from outside of the namespace *fd* with the mount *top*, and told by; and how
#: it ends.
QUESTIONS: dict[str, tuple[Callable[[int, int], object], str]] = {
    "listmount by descriptor": (lambda fd, _: listmount(ns_fd=fd), "success"),
    "listmount by id": (lambda fd, _: listmount(ns_id=ns_id(fd)), "success"),
    "listmount below the mount": (lambda fd, top: listmount(top, ns_fd=fd), "success"),
    "listmount of none": (lambda fd, _: listmount(1 << 62, ns_fd=fd), "ENOENT"),
    "statmount by descriptor": (lambda fd, top: statmount(top, ns_fd=fd), "success"),
    "statmount by id": (lambda fd, top: statmount(top, ns_id=ns_id(fd)), "success"),
    "statmount of none": (lambda fd, _: statmount(1 << 62, ns_fd=fd), "ENOENT"),
    "NS_MNT_GET_INFO": (lambda fd, _: mnt_get_info(fd), "success"),
}
#: What can be asked, copied, or refused, inside; and how it ends.
INSIDE: dict[str, tuple[Callable[[], object], str]] = {
    "listmount and statmount": (mount_table, "success"),
    "copy": (lambda: os.close(copy("/", recursive=True)), "success"),
    "clone": (lambda: os.close(clone("/", recursive=True)), "success"),
    "mount and umount2": (lambda: umount2(tmpfs(Path("/dir"))), "success"),
    "binds of the root on itself": (bind_root_on_itself, "success"),
    "bind below itself": (partial(mount, "/", "/dir", None, MS_BIND), "success"),
    "umount2 of a directory": (partial(umount2, "/dir", MNT_DETACH), "EINVAL"),
    "umount2 of a mount in use": (umount_in_use, "EBUSY"),
    "mount_setattr of a directory": (
        partial(mount_setattr, AT_FDCWD, "/dir", attr_set=MOUNT_ATTR_RDONLY),
        "EINVAL",
    ),
    "move_mount of a directory": (
        partial(move_mount, AT_FDCWD, "/dir", AT_FDCWD, "/", 0),
        "EINVAL",
    ),
    "move_mount to no place": (partial(move_mount, AT_FDCWD, "/", AT_FDCWD, "/no", 0), "ENOENT"),
    "pivot_root with no place for the old root": (pivot_root_for_nothing, "EBUSY"),
    "mount of what there is not": (partial(mount, "/no", "/dir", None, MS_BIND), "ENOENT"),
    "copy of no directory": (partial(copy, "/no"), "ENOENT"),
}


@pytest.mark.rule("T1")
@pytest.mark.needs("inotify")
def test_questions_hold_nothing() -> None:
    """Whatever is asked of it, copied or refused inside, its file system ends with its holders."""
    found, rule = dict[str, object](), dict[str, object]()
    questions = dict(QUESTIONS)
    with NamespaceThread() as thread:

        def ask_inside(question: Callable[[], object], fd: int, _: int) -> None:
            thread.call_in(fd, question)

        for name, (function, end) in INSIDE.items():
            questions[name] = partial(ask_inside, function), end
        for name, (ask, end) in questions.items():
            context = created()
            tree = fsmount(context)
            os.close(context)
            os.mkdir("dir", dir_fd=tree)
            watch = inotify_watch(f"/proc/self/fd/{tree}")
            fd = copy("", dirfd=tree)
            os.close(tree)
            found[name] = outcome(ask, fd, listmount(ns_fd=fd)[0])
            os.close(fd)
            rule[name], rule[f"{name}: gone"] = end, True
            found[f"{name}: gone"] = is_gone(watch)
            os.close(watch)

    assert found == rule
