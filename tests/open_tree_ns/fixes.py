# SPDX-License-Identifier: GPL-2.0-only
"""The kernel commits that fixed a rule, each once: marks for the cases that fail without it.

A fix is its commit (12 digits; "-" where the id is not known), the first release that has it, the
older series with a release of their own, and the subject in full, for ``git log --grep``.
"""

from __future__ import annotations

import pytest

DIRECTORIES_ONLY = pytest.mark.fixed_by(
    "805d5a2b7928",
    "7.1, 7.0.13",
    "namespace: restrict OPEN_TREE_NAMESPACE/FSMOUNT_NAMESPACE to directories",
)

# What is copied
KEEP_COVERED = pytest.mark.fixed_by(
    "0febe278ec45", "7.2.11", "namespace: keep covered mounts covered in OPEN_TREE_NAMESPACE"
)
KEEP_UNBINDABLE = pytest.mark.fixed_by(
    "1ab8904ae61b", "7.2.11", "mount: keep a copied mount unbindable"
)
KEEP_LOCK_OF_FILES = pytest.mark.fixed_by(
    "-", "7.2.13", "namespace: a mount that copy_tree() leaves out can't take over a lock"
)
UNMOUNTED_TREES = pytest.mark.fixed_by(
    "8bacbf6be959", "7.2.11", "namespace: don't copy an unmounted mount tree"
)
CLONED_UMOUNT_FLAG = pytest.mark.fixed_by(
    "e2c6d3262166", "7.2.11", "namespace: don't inherit MNT_UMOUNT in clone_mnt()"
)
REFUSED_COPIES = pytest.mark.fixed_by(
    "a41dbf5e004e", "7.0-rc2", "mount: hold namespace_sem across copy in create_new_namespace()"
)

# Mounts that move, arrive and go
TRANSFERRED_LOCK = pytest.mark.fixed_by("c62a4766937e", "7.1", "move_mount: transfer MNT_LOCKED")
BENEATH_THE_ROOT = pytest.mark.fixed_by(
    "ccfac16e0be5", "7.1", "move_mount: allow MOVE_MOUNT_BENEATH on the rootfs"
)
LOCK_ABOVE_A_PROPAGATED_COPY = pytest.mark.fixed_by(
    "d74d66aa708c",
    "7.2.11",
    "namespace: keep the lock on a mount that a propagated copy is moved beneath",
)
TOPMOST_NAMESPACE_FILE = pytest.mark.fixed_by(
    "8714b44adac7", "7.2.11", "namespace: look at the topmost mount for a mount namespace file"
)
NAMESPACE_LOOPS = pytest.mark.fixed_by(
    "c640a01a78e4",
    "7.2.11",
    "namespace: check a recursive bind mount for mount namespace loops",
)
STALE_OVERMOUNT = pytest.mark.fixed_by(
    "476ef286a7a5",
    "7.2.11",
    "namespace: reset the old parent's ->overmount in mnt_change_mountpoint()",
)
UNBINDABLE_GROUPS = pytest.mark.fixed_by(
    "a2b42babc912", "7.2.11", "mount: refuse MOVE_MOUNT_SET_GROUP on an unbindable mount"
)
STAND_INS = pytest.mark.fixed_by("01cbebb42070", "7.3", "namespace: rework connected mounts")
STAND_INS_FOR_FILES = pytest.mark.fixed_by(
    "54867884fef5", "7.3", "nullfs: add an empty immutable regular file"
)
BUSY_COPIES = pytest.mark.fixed_by(
    "6857e209015f", "7.2.11", "fs: don't silently unmount busy mounts"
)
BUSY_SUBMOUNTS = pytest.mark.fixed_by(
    "32bf92416614",
    "7.2.11",
    "namespace: check a submount for references right before unmounting it",
)
AUTOMOUNT_LOCKS = pytest.mark.fixed_by(
    "33aadc7c7205", "7.2.11", "namespace: handle mount locking for automounts correctly"
)
AUTOMOUNT_WITHOUT_NAMESPACE = pytest.mark.fixed_by(
    "ba985ce08471",
    "7.2.11",
    "namespace: refuse an automount below a mount that is in no namespace",
)
LOCKED_EXPIRY = pytest.mark.fixed_by(
    "f78ddcc87224", "7.2.11", "namespace: never expire a locked mount"
)

UNHASHED_FIRST = pytest.mark.fixed_by(
    "528b383dc35d", "7.2.11", "namespace: unhash a dentry before detaching the mounts on it"
)
REVEALED_IN_REFWALK = pytest.mark.fixed_by(
    "8189ab688f5a", "7.2.11", "namei: don't reveal overmounted entries in refwalk"
)
MOUNTS_ON_THE_DYING = pytest.mark.fixed_by(
    "75f4197f1e11", "7.2.11", "dcache: don't put a mountpoint on a dentry that's being removed"
)
HANDLES_UNDER_MOUNT_LOCK = pytest.mark.fixed_by(
    "67b69b8a6ea7", "7.3", "fhandle: decide the subtree check under mount_lock"
)

# The base
RECONFIGURED_NULLFS = pytest.mark.fixed_by(
    "d791606bb915",
    "7.2.11",
    "namespace: don't reconfigure internal superblocks via remount and umount",
)
NULLFS_FILE_LOCKS = pytest.mark.fixed_by("31a1fb90624d", "7.2.12", "nullfs: refuse file locks")
NULLFS_ATIME = pytest.mark.fixed_by(
    "caf16f9b4aa6", "7.2.11", "nullfs: don't update the access time"
)
NULLFS_READERS = pytest.mark.fixed_by(
    "e08f57a7dcb8", "7.2.12", "readdir: take no inode lock on an immutable directory"
)
PICKED_NULLFS = pytest.mark.fixed_by(
    "02587a4af82a", "7.2.11", "fs: refuse fspick() on internal superblocks"
)
NULLFS_RW_HINT = pytest.mark.fixed_by(
    "b0d1022b9bdb", "7.2.11", "fcntl: refuse F_SET_RW_HINT on an immutable inode"
)
NULLFS_MARKS = pytest.mark.fixed_by(
    "c9ec8607b4d1", "7.3", "fsnotify: let a filesystem refuse marks on its objects"
)

# Entering, leaving and watching
SHARED_FS_STRUCT = pytest.mark.fixed_by(
    "-", "7.3.4", "mount: refuse setns() with a shared fs_struct again"
)
UNSHARED_FS_STRUCT = pytest.mark.fixed_by(
    "57088a37b2e4", "7.3", "fs: put the old fs_struct before the old namespaces in unshare()"
)
POLLERS_OF_TYPES = pytest.mark.fixed_by(
    "0ae44a20835e", "7.3", "fs/namespace: notify pollers of legacy propagation changes"
)
PROC_OF_PROCESSES = pytest.mark.fixed_by(
    "05dab768fc2d",
    "7.2",
    "proc: handle subset=pid separately in userns visibility checks",
)
ACTIVE_REFERENCES = pytest.mark.fixed_by(
    "0b6f31a3c0b1",
    "7.2.11",
    "unshare: don't drop active namespace references that were never taken",
)
MARKS_IN_PROCESS_CONTEXT = pytest.mark.fixed_by(
    "1a116222acdc",
    "7.2.11",
    "namespace: remove the fsnotify marks of a mount namespace in process context",
)

# Lists
LISTNS_PERMISSION = pytest.mark.fixed_by(
    "8d76afe84fa2", "7.0-rc3", "nstree: tighten permission checks for listing"
)
LISTNS_REFERENCE = pytest.mark.fixed_by(
    "56ea4e86832d",
    "7.2.7",
    "nstree: check listing permission before taking a namespace reference",
)
LISTNS_INACTIVE = pytest.mark.fixed_by(
    "-", "7.3.4", "nstree: don't end listns() at an inactive namespace"
)
NEIGHBOURS_PERMISSION = pytest.mark.fixed_by(
    "e6b899f08066", "7.0-rc3", "nsfs: tighten permission checks for ns iteration ioctls"
)
LISTMOUNT_CURSOR = pytest.mark.fixed_by(
    "-", "7.3.4", "listmount: don't wrap around with a U64_MAX cursor"
)
STATMOUNT_BUFFER = pytest.mark.fixed_by(
    "-", "7.3.4", "statmount: don't copy the reserved empty string past the buffer"
)
STATMOUNT_PERMISSION = pytest.mark.fixed_by(
    "fccbe38a5d06", "7.0-rc1", "statmount: permission check should return EPERM"
)
MOUNTINFO_ITERATION = pytest.mark.fixed_by(
    "4a403d7aa907", "7.0-rc2", "namespace: fix proc mount iteration"
)
LISTNS_CURSOR = pytest.mark.fixed_by(
    "-", "7.3.4", "listns: don't wrap around with a U64_MAX cursor"
)
HANDLE_PERMISSION = pytest.mark.fixed_by(
    "d2324a9317f0", "7.0-rc3", "nsfs: tighten permission checks for handle opening"
)
