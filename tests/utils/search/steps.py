# SPDX-License-Identifier: GPL-2.0-only
"""Steps: a verb and its paths each, which make a tree of mounts or change it.

A step that the kernel refuses changes nothing.
"""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path

from tests.utils.mounts.trees import tmpfs
from tests.utils.tasks.userns import userns_fd
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_REC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
    PROPAGATION_TYPES,
    MountAttr,
)
from tests.utils.uapi.syscalls import (
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    umount2,
)

#: What every new file system of a program holds.
DIRECTORIES = ("a", "a/b", "c")
FILES = ("f", "a/g")

#: The attributes that steps and events name.
ATTRIBUTES = {
    "ro": MountAttr.MOUNT_ATTR_RDONLY,
    "nosuid": MountAttr.MOUNT_ATTR_NOSUID,
    "nodev": MountAttr.MOUNT_ATTR_NODEV,
    "noexec": MountAttr.MOUNT_ATTR_NOEXEC,
    "nosymfollow": MountAttr.MOUNT_ATTR_NOSYMFOLLOW,
}
#: The first word of a step, and how many paths follow it.
STEPS = {
    "fresh": 1,
    "bind": 2,
    "rbind": 2,
    "move": 2,
    "detach": 1,
    "idmap": 1,
    "netns": 1,
    "mntns": 1,
    **dict.fromkeys((*PROPAGATION_TYPES, *(f"r{name}" for name in PROPAGATION_TYPES)), 1),
    **dict.fromkeys(ATTRIBUTES, 1),
}


@functools.cache
def _other_ids() -> int:
    return userns_fd("5 0 1\n", "5 0 1\n")


class Tree:
    """The tree on which a program's steps work."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self._serial = 0
        self.fresh(top)

    def fresh(self, place: Path) -> None:
        """Mount a file system that no other has the contents of."""
        self._serial += 1
        tmpfs(place)
        for name in DIRECTORIES:
            (place / name).mkdir()
        for name in FILES:
            (place / name).write_text(f"{name} of file system {self._serial}")

    def step(self, text: str) -> None:
        """Take one step; the kernel may refuse it."""
        verb, *names = text.split()
        with contextlib.suppress(OSError):
            self._take(verb, *(self.top / name for name in names))

    def _take(self, verb: str, place: Path, target: Path = Path()) -> None:
        kind = verb.removeprefix("r")
        if verb == "fresh":
            if place.is_dir():
                self.fresh(place)
        elif verb in ("bind", "rbind"):
            mount(place, target, None, MS_BIND | (MS_REC if verb == "rbind" else 0))
        elif verb == "move":
            move_mount(AT_FDCWD, place, AT_FDCWD, target, 0)
        elif verb == "detach":
            umount2(place, MNT_DETACH)
        elif verb in ATTRIBUTES:
            mount_setattr(AT_FDCWD, place, 0, attr_set=ATTRIBUTES[verb])
        elif verb == "idmap":
            tree = open_tree(AT_FDCWD, place, OPEN_TREE_CLONE)
            flags, ids = MOUNT_ATTR_IDMAP, _other_ids()
            mount_setattr(tree, "", AT_EMPTY_PATH, attr_set=flags, userns_fd=ids)
            move_mount(tree, "", AT_FDCWD, place, MOVE_MOUNT_F_EMPTY_PATH)
        elif verb == "netns":
            mount("/proc/self/ns/net", place, None, MS_BIND)
        elif verb == "mntns":
            fd = open_tree(AT_FDCWD, self.top / "a/b", OPEN_TREE_NAMESPACE | AT_RECURSIVE)
            mount(f"/proc/self/fd/{fd}", place, None, MS_BIND)
        elif kind in PROPAGATION_TYPES:
            mount(None, place, None, PROPAGATION_TYPES[kind] | (MS_REC if verb != kind else 0))
        else:
            raise ValueError(f"unknown step: {verb}")
