# SPDX-License-Identifier: GPL-2.0-only
"""A mount namespace in which nothing holds the root in place.

A mount namespace made together with a user namespace has a locked root, and an owner's copies made
in there have one too: what an owner may do with the root of a copy cannot be seen from there.
:func:`enter_unlocked_namespace` takes the caller to a namespace of its own making, where it can.
"""

from __future__ import annotations

import errno
import os

from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.syscalls import attach, open_tree, setns, umount2, unshare


def root_is_locked() -> bool:
    """Return whether the root of an owner's copies made here is locked."""
    here, directory = current_mnt_ns(), os.open(".", os.O_PATH)
    setns(open_tree(fresh_tmpfs(), "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH), CLONE_NEWNS)
    try:
        umount2("/", MNT_DETACH)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return True
    else:
        return False
    finally:
        setns(here, CLONE_NEWNS)
        os.fchdir(directory)


def enter_unlocked_namespace() -> None:
    """Move to a namespace with the same tree on a root that is not locked, where this one is.

    All paths stay what they are. Mounts that were locked below the root stay so; those the caller
    made are free.

    :raises OSError: EINVAL on kernels without UNSHARE_EMPTY_MNTNS (before 7.1), where needed.
    """
    if not root_is_locked():
        return
    directory = os.getcwd()
    tree = open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | AT_RECURSIVE)
    unshare(UNSHARE_EMPTY_MNTNS)
    attach(tree, "/")
    os.fchdir(tree)
    os.chroot(".")
    os.chdir(directory)
