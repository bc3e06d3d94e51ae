# SPDX-License-Identifier: GPL-2.0-only
"""Constants of the kernel's interface, named as its UAPI headers name them.

The flags of one system call form one ``IntFlag`` family, so that an assertion shows names and
not only numbers. Sources: ``linux/mount.h``, ``linux/fcntl.h``, ``linux/nsfs.h``,
``linux/sched.h``, ``linux/magic.h`` (Linux 7.3). Values are the same on every architecture except
``O_CLOEXEC``, which is why that one comes from ``os``.
"""

from __future__ import annotations

import os
from enum import IntEnum, IntFlag

AT_FDCWD = -100


class OpenTree(IntFlag):
    """Flags of open_tree(2): the seven bits the call knows (``linux/mount.h``, ``fcntl.h``)."""

    OPEN_TREE_CLONE = 1 << 0
    OPEN_TREE_NAMESPACE = 1 << 1
    AT_SYMLINK_NOFOLLOW = 0x100
    AT_NO_AUTOMOUNT = 0x800
    AT_EMPTY_PATH = 0x1000
    AT_RECURSIVE = 0x8000
    OPEN_TREE_CLOEXEC = os.O_CLOEXEC


OPEN_TREE_CLONE = OpenTree.OPEN_TREE_CLONE
OPEN_TREE_NAMESPACE = OpenTree.OPEN_TREE_NAMESPACE
OPEN_TREE_CLOEXEC = OpenTree.OPEN_TREE_CLOEXEC
AT_SYMLINK_NOFOLLOW = OpenTree.AT_SYMLINK_NOFOLLOW
AT_NO_AUTOMOUNT = OpenTree.AT_NO_AUTOMOUNT
AT_EMPTY_PATH = OpenTree.AT_EMPTY_PATH
AT_RECURSIVE = OpenTree.AT_RECURSIVE


class MoveMount(IntFlag):
    """Flags of move_mount(2) (``linux/mount.h``)."""

    MOVE_MOUNT_F_SYMLINKS = 0x01
    MOVE_MOUNT_F_AUTOMOUNTS = 0x02
    MOVE_MOUNT_F_EMPTY_PATH = 0x04
    MOVE_MOUNT_T_SYMLINKS = 0x10
    MOVE_MOUNT_T_AUTOMOUNTS = 0x20
    MOVE_MOUNT_T_EMPTY_PATH = 0x40
    MOVE_MOUNT_SET_GROUP = 0x100
    MOVE_MOUNT_BENEATH = 0x200


MOVE_MOUNT_F_SYMLINKS = MoveMount.MOVE_MOUNT_F_SYMLINKS
MOVE_MOUNT_F_AUTOMOUNTS = MoveMount.MOVE_MOUNT_F_AUTOMOUNTS
MOVE_MOUNT_F_EMPTY_PATH = MoveMount.MOVE_MOUNT_F_EMPTY_PATH
MOVE_MOUNT_T_SYMLINKS = MoveMount.MOVE_MOUNT_T_SYMLINKS
MOVE_MOUNT_T_AUTOMOUNTS = MoveMount.MOVE_MOUNT_T_AUTOMOUNTS
MOVE_MOUNT_T_EMPTY_PATH = MoveMount.MOVE_MOUNT_T_EMPTY_PATH
MOVE_MOUNT_SET_GROUP = MoveMount.MOVE_MOUNT_SET_GROUP
MOVE_MOUNT_BENEATH = MoveMount.MOVE_MOUNT_BENEATH


class Fsmount(IntFlag):
    """Flags of fsmount(2) (``linux/mount.h``)."""

    FSMOUNT_CLOEXEC = 1 << 0
    FSMOUNT_NAMESPACE = 1 << 1


FSMOUNT_CLOEXEC = Fsmount.FSMOUNT_CLOEXEC
FSMOUNT_NAMESPACE = Fsmount.FSMOUNT_NAMESPACE

#: fcntl(2) (``linux/fcntl.h``)
F_SET_RW_HINT = 1036
F_SETDELEG = 1040

FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6


class MountAttr(IntFlag):
    """``MOUNT_ATTR_*``: per-mount attributes (``linux/mount.h``)."""

    MOUNT_ATTR_RDONLY = 0x01
    MOUNT_ATTR_NOSUID = 0x02
    MOUNT_ATTR_NODEV = 0x04
    MOUNT_ATTR_NOEXEC = 0x08
    MOUNT_ATTR_NOATIME = 0x10
    MOUNT_ATTR_STRICTATIME = 0x20
    MOUNT_ATTR_NODIRATIME = 0x80
    MOUNT_ATTR_IDMAP = 0x100000
    MOUNT_ATTR_NOSYMFOLLOW = 0x200000


MOUNT_ATTR_RDONLY = MountAttr.MOUNT_ATTR_RDONLY
MOUNT_ATTR_NOSUID = MountAttr.MOUNT_ATTR_NOSUID
MOUNT_ATTR_NODEV = MountAttr.MOUNT_ATTR_NODEV
MOUNT_ATTR_NOEXEC = MountAttr.MOUNT_ATTR_NOEXEC
MOUNT_ATTR_NOATIME = MountAttr.MOUNT_ATTR_NOATIME
MOUNT_ATTR_STRICTATIME = MountAttr.MOUNT_ATTR_STRICTATIME
MOUNT_ATTR_NODIRATIME = MountAttr.MOUNT_ATTR_NODIRATIME
MOUNT_ATTR_IDMAP = MountAttr.MOUNT_ATTR_IDMAP
MOUNT_ATTR_NOSYMFOLLOW = MountAttr.MOUNT_ATTR_NOSYMFOLLOW
#: The two-bit field that holds relatime (0), noatime or strictatime.
MOUNT_ATTR__ATIME = 0x70


class MountFlags(IntFlag):
    """``MS_*``: flags of mount(2), and the propagation types statmount(2) reports."""

    MS_RDONLY = 1 << 0
    MS_NOSUID = 1 << 1
    MS_NODEV = 1 << 2
    MS_NOEXEC = 1 << 3
    MS_SYNCHRONOUS = 1 << 4
    MS_REMOUNT = 1 << 5
    MS_DIRSYNC = 1 << 7
    MS_NOATIME = 1 << 10
    MS_BIND = 1 << 12
    MS_MOVE = 1 << 13
    MS_REC = 1 << 14
    MS_UNBINDABLE = 1 << 17
    MS_PRIVATE = 1 << 18
    MS_SLAVE = 1 << 19
    MS_SHARED = 1 << 20
    MS_STRICTATIME = 1 << 24
    MS_LAZYTIME = 1 << 25


MS_RDONLY = MountFlags.MS_RDONLY
MS_NOSUID = MountFlags.MS_NOSUID
MS_NODEV = MountFlags.MS_NODEV
MS_NOEXEC = MountFlags.MS_NOEXEC
MS_SYNCHRONOUS = MountFlags.MS_SYNCHRONOUS
MS_REMOUNT = MountFlags.MS_REMOUNT
MS_DIRSYNC = MountFlags.MS_DIRSYNC
MS_NOATIME = MountFlags.MS_NOATIME
MS_BIND = MountFlags.MS_BIND
MS_MOVE = MountFlags.MS_MOVE
MS_REC = MountFlags.MS_REC
MS_UNBINDABLE = MountFlags.MS_UNBINDABLE
MS_PRIVATE = MountFlags.MS_PRIVATE
MS_SLAVE = MountFlags.MS_SLAVE
MS_SHARED = MountFlags.MS_SHARED
MS_STRICTATIME = MountFlags.MS_STRICTATIME
MS_LAZYTIME = MountFlags.MS_LAZYTIME
#: The propagation types, by their names.
PROPAGATION_TYPES = {
    "private": MS_PRIVATE,
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "unbindable": MS_UNBINDABLE,
}


class Umount(IntFlag):
    """Flags of umount2(2) (``linux/fs.h``)."""

    MNT_FORCE = 1
    MNT_DETACH = 2
    MNT_EXPIRE = 4


MNT_FORCE = Umount.MNT_FORCE
MNT_DETACH = Umount.MNT_DETACH
MNT_EXPIRE = Umount.MNT_EXPIRE


class Clone(IntFlag):
    """``CLONE_*`` for clone3(2), unshare(2) and setns(2) (``linux/sched.h``)."""

    CLONE_NEWTIME = 0x00000080
    CLONE_VM = 0x00000100
    CLONE_FS = 0x00000200
    CLONE_FILES = 0x00000400
    CLONE_SIGHAND = 0x00000800
    CLONE_PIDFD = 0x00001000
    CLONE_THREAD = 0x00010000
    CLONE_NEWNS = 0x00020000
    CLONE_SYSVSEM = 0x00040000
    CLONE_PARENT_SETTID = 0x00100000
    CLONE_NEWCGROUP = 0x02000000
    CLONE_NEWUTS = 0x04000000
    CLONE_NEWIPC = 0x08000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000


CLONE_FS = Clone.CLONE_FS
CLONE_PIDFD = Clone.CLONE_PIDFD
CLONE_NEWNS = Clone.CLONE_NEWNS
CLONE_PARENT_SETTID = Clone.CLONE_PARENT_SETTID
CLONE_NEWUTS = Clone.CLONE_NEWUTS
CLONE_NEWIPC = Clone.CLONE_NEWIPC
CLONE_NEWUSER = Clone.CLONE_NEWUSER
CLONE_NEWPID = Clone.CLONE_NEWPID
CLONE_NEWNET = Clone.CLONE_NEWNET
#: unshare(2): a mount namespace that holds nothing but nullfs (since 7.1).
UNSHARE_EMPTY_MNTNS = 0x00100000
#: clone3(2): the same for the child (since 7.1).
CLONE_EMPTY_MNTNS = 1 << 37


class Statmount(IntFlag):
    """``STATMOUNT_*``: what statmount(2) is asked for and has answered (``linux/mount.h``)."""

    STATMOUNT_SB_BASIC = 1 << 0
    STATMOUNT_MNT_BASIC = 1 << 1
    STATMOUNT_PROPAGATE_FROM = 1 << 2
    STATMOUNT_MNT_ROOT = 1 << 3
    STATMOUNT_MNT_POINT = 1 << 4
    STATMOUNT_FS_TYPE = 1 << 5
    STATMOUNT_MNT_NS_ID = 1 << 6
    STATMOUNT_MNT_OPTS = 1 << 7
    STATMOUNT_FS_SUBTYPE = 1 << 8
    STATMOUNT_SB_SOURCE = 1 << 9
    STATMOUNT_OPT_ARRAY = 1 << 10
    STATMOUNT_OPT_SEC_ARRAY = 1 << 11
    STATMOUNT_SUPPORTED_MASK = 1 << 12
    STATMOUNT_MNT_UIDMAP = 1 << 13
    STATMOUNT_MNT_GIDMAP = 1 << 14


#: listmount(2) and statmount(2): the root mount of the namespace.
LSMT_ROOT = 0xFFFFFFFFFFFFFFFF
LISTMOUNT_REVERSE = 1 << 0
#: statmount(2): the mount is given by a descriptor on it (since 7.0).
STATMOUNT_BY_FD = 1 << 0


class FsMagic(IntEnum):
    """``*_SUPER_MAGIC`` of the file systems the cases name (``linux/magic.h``)."""

    NULL_FS_MAGIC = 0x4E554C4C
    TMPFS_MAGIC = 0x01021994
    PROC_SUPER_MAGIC = 0x9FA0
    NSFS_MAGIC = 0x6E736673


NULL_FS_MAGIC = FsMagic.NULL_FS_MAGIC
