# SPDX-License-Identifier: GPL-2.0-only
"""``/proc/PID/mountinfo``, and what it must say of a mount that statmount(2) describes.

The two are made from the same mounts by different code. The file escapes blanks and backslashes,
statmount(2) gives names as they are. Sources: proc_pid_mountinfo(5), ``fs/proc_namespace.c``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from tests.utils.uapi.constants import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MS_SLAVE,
    MS_UNBINDABLE,
    MountAttr,
)
from tests.utils.uapi.statmount import Mount

_ESCAPED = " \t\n\\"
_OPTIONS = {
    MountAttr.MOUNT_ATTR_NOSUID: "nosuid",
    MountAttr.MOUNT_ATTR_NODEV: "nodev",
    MountAttr.MOUNT_ATTR_NOEXEC: "noexec",
    MountAttr.MOUNT_ATTR_NODIRATIME: "nodiratime",
    MountAttr.MOUNT_ATTR_NOSYMFOLLOW: "nosymfollow",
    MountAttr.MOUNT_ATTR_IDMAP: "idmapped",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of mountinfo, up to the file system's type; names still escaped."""

    mnt_id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    options: frozenset[str]
    tags: tuple[str, ...]
    fs_type: str


def escape(name: str) -> str:
    """Return a name as mountinfo writes it: blanks and backslashes in octal."""
    return "".join(f"\\{ord(char):03o}" if char in _ESCAPED else char for char in name)


def parse(text: str) -> list[Line]:
    """Return the lines of a mountinfo file."""
    lines = []
    for text_line in text.splitlines():
        before, _, after = text_line.partition(" - ")
        mnt_id, parent, device, root, point, options, *tags = before.split(" ")
        lines.append(
            Line(
                int(mnt_id),
                int(parent),
                device,
                root,
                point,
                frozenset(options.split(",")),
                tuple(tags),
                after.split(" ")[0],
            )
        )
    return lines


def open_proc() -> int:
    """Return a descriptor of /proc: it works in a namespace where proc is not mounted too."""
    return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def mountinfo(proc: int) -> list[Line]:
    """Return the caller's own mountinfo, by way of a descriptor from :func:`open_proc`."""
    fd = os.open("self/mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with os.fdopen(fd, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        return parse(file.read())


def line_of(mount: Mount) -> Line:
    """Return the line mountinfo must have for *mount*."""
    options = {name for attr, name in _OPTIONS.items() if attr in mount.mnt_attr}
    options.add("ro" if MountAttr.MOUNT_ATTR_RDONLY in mount.mnt_attr else "rw")
    atime = mount.mnt_attr & MOUNT_ATTR__ATIME
    if not atime:
        options.add("relatime")
    elif atime == MOUNT_ATTR_NOATIME:
        options.add("noatime")
    tags = []
    if mount.mnt_peer_group:
        tags.append(f"shared:{mount.mnt_peer_group}")
    if MS_SLAVE in mount.mnt_propagation:
        tags.append(f"master:{mount.mnt_master}")
    if MS_UNBINDABLE in mount.mnt_propagation:
        tags.append("unbindable")
    return Line(
        mount.mnt_id_old,
        mount.mnt_parent_id_old,
        f"{mount.sb_dev[0]}:{mount.sb_dev[1]}",
        escape(mount.mnt_root),
        escape(mount.mnt_point or ""),
        frozenset(options),
        tuple(tags),
        mount.fs_type,
    )
