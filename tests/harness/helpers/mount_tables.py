# SPDX-License-Identifier: GPL-2.0-only
"""Mount tables made by hand."""

from __future__ import annotations

from tests.utils.uapi.constants import MS_PRIVATE, MountAttr, MountFlags
from tests.utils.uapi.statmount import Mount

NO_ATTRIBUTES = MountAttr(0)


def made(
    mnt_id: int,
    parent: int,
    point: str | None,
    *,
    root: str = "/",
    fs_type: str = "tmpfs",
    attr: MountAttr = NO_ATTRIBUTES,
    kind: MountFlags = MS_PRIVATE,
    peers: int = 0,
    master: int = 0,
) -> Mount:
    """One line of a mount table."""
    return Mount(
        mnt_id=mnt_id,
        mnt_parent_id=parent,
        mnt_id_old=mnt_id - 100,
        mnt_parent_id_old=parent - 100,
        mnt_ns_id=7,
        fs_type=fs_type,
        sb_source="disk",
        sb_magic=0,
        sb_dev=(0, mnt_id),
        sb_flags=0,
        mnt_attr=attr,
        mnt_propagation=kind,
        mnt_peer_group=peers,
        mnt_master=master,
        mnt_root=root,
        mnt_point=point,
        uidmap=(),
        gidmap=(),
    )


#: A root with a mount at /t, on which lie: /t/a with /t/a/b, /t/ab, and the like-named /t/dir/c.
TABLE = [
    made(101, 100, "/"),
    made(102, 101, "/t"),
    made(103, 102, "/t/a"),
    made(104, 103, "/t/a/b"),
    made(105, 102, "/t/ab"),
    made(106, 102, "/t/dir/c"),
    made(107, 101, "/t2"),
]
