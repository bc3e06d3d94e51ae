# SPDX-License-Identifier: GPL-2.0-only
"""The mount namespace the containers are made from: so many mounts, and a tree to copy.

It is made in the calling process, for which there is nothing else afterwards: but for /proc, by a
descriptor, not a file of the machine's is left to read, nor a mount of it to touch.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.constants import MNT_DETACH, MS_BIND, MS_REC, MS_SHARED
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.syscalls import attach, mount, pivot_root, umount2

ROOT = b"/container"
#: What is mounted over and over again, and what the bystander mounts on.
_LEAF, _BYSTANDER = b"/leaf", b"/bystander"
#: Below the root, and again below each mount of the tree.
_STEP = b"below"


@dataclass(frozen=True)
class Layout:
    """What to make.

    :param table: mounts in the caller's table, all of them; but for the hidden base.
    :param depth: how many of them are below the containers' root, each on the one before.
    :param siblings: how many are on the same mount as the containers' root, and not below it. The
        others are on a mount of their own.
    :param shared: whether all mounts are shared, each in a peer group of its own, as systemd has
        them; else private.
    """

    table: int = 30
    depth: int = 0
    siblings: int = 0
    shared: bool = False


@dataclass(frozen=True)
class Ground:
    """The namespace, made."""

    #: A descriptor of it, to come back by.
    home: int
    #: A descriptor of /proc, which the ground itself has not.
    proc: int
    #: The directory that becomes the root of each container: a plain one, as no mount is needed.
    root: bytes = ROOT
    leaf: bytes = _LEAF
    bystander: bytes = _BYSTANDER


def prepare(layout: Layout) -> Ground:
    """Move to a new mount namespace, owned by the caller's user namespace, and fill it.

    :raises OSError: the kernel's; EPERM without CAP_SYS_ADMIN over the caller's user namespace.
    """
    enter_new_mount_ns()
    home = current_mnt_ns()
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    top = fresh_tmpfs()
    # Over the root, so that no directory of the machine's is needed; then in place of it.
    attach(top, "/")
    os.fchdir(top)
    os.close(top)
    pivot_root(".", ".")
    umount2(".", MNT_DETACH)
    os.chdir("/")
    for path in (ROOT, _LEAF, _BYSTANDER, ROOT + b"/" + _STEP, _LEAF + b"/" + _STEP):
        os.mkdir(path)
    place = ROOT
    for _ in range(layout.depth):
        place += b"/" + _STEP
        mount(_LEAF, place, None, MS_BIND)
    _fill(b"/beside", layout.siblings)
    elsewhere = layout.table - 1 - layout.depth - layout.siblings
    if elsewhere:
        os.mkdir(b"/table")
        mount(b"/table", b"/table", None, MS_BIND)
        _fill(b"/table", elsewhere - 1)
    if layout.shared:
        # Now, and not before: the binds of a shared mount would all be peers.
        mount(None, "/", None, MS_REC | MS_SHARED)
    return Ground(home, proc)


def _fill(path: bytes, count: int) -> None:
    """Mount *count* times on directories of *path*."""
    os.makedirs(path, exist_ok=True)
    for number in range(count):
        place = b"%s/%d" % (path, number)
        os.mkdir(place)
        mount(_LEAF, place, None, MS_BIND)
