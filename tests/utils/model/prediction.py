# SPDX-License-Identifier: GPL-2.0-only
"""What a copy must look like: the rules of copying, stated once more and independently.

:func:`predict` takes the caller's own mount table, before the call, and says which mounts the new
namespace must hold, down to attributes, id maps and propagation groups. :func:`namespace_tree`
reads what the kernel made. Both are trees of :class:`Node`, which leaves out what differs from
copy to copy (mount ids), so that they can be compared whole: ``lines()`` of the one against
``lines()`` of the other shows every difference, also one nobody thought of.

A stack of mounts on one place is a chain here: each mount is a child of the one it lies on.
:meth:`Node.visible` is what is left of a tree for someone inside, who stands on the topmost.

Locks (MNT_LOCKED) are not in here: no call reports them.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from tests.utils.deviation import Deviation, DeviationError
from tests.utils.model.lines import Lines
from tests.utils.uapi.constants import (
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    MountAttr,
    MountFlags,
)
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table, statmount


@dataclass(frozen=True, slots=True)
class Node:
    """One mount of a tree and what is mounted on it. ``mnt_point`` is relative to the tree."""

    mnt_point: str
    mnt_root: str
    fs_type: str
    sb_source: str
    sb_dev: tuple[int, int]
    mnt_attr: MountAttr
    mnt_propagation: MountFlags
    mnt_peer_group: int
    mnt_master: int
    uidmap: tuple[str, ...]
    gidmap: tuple[str, ...]
    children: tuple[Node, ...] = ()

    def line(self) -> str:
        """Return the mount in one line: where, what, how."""
        words = [
            self.mnt_point,
            f"{self.fs_type}:{self.sb_dev[0]}:{self.sb_dev[1]}:{self.mnt_root}",
            f"source {self.sb_source!r}",
            _names(self.mnt_attr) or "no attributes",
            _names(self.mnt_propagation),
        ]
        if self.mnt_peer_group:
            words.append(f"peer group {self.mnt_peer_group}")
        if self.mnt_master:
            words.append(f"master {self.mnt_master}")
        if self.uidmap or self.gidmap:
            words.append(f"uidmap {self.uidmap} gidmap {self.gidmap}")
        return "  ".join(words)

    def lines(self, depth: int = 0) -> Lines:
        """Return the whole tree, a line a mount, what is mounted on a mount indented below it."""
        below = (line for child in self.children for line in child.lines(depth + 1))
        return Lines(["    " * depth + self.line(), *below])

    def mount_points(self) -> list[str]:
        """Return the mount points of the whole tree, top first."""
        return [self.mnt_point, *(p for child in self.children for p in child.mount_points())]

    def visible(self) -> Node:
        """Return the part that can be reached from inside: the topmost mount on "/" and what is
        on it."""
        for child in self.children:
            if child.mnt_point == self.mnt_point:
                return child.visible()
        return self


def _names(flags: MountAttr | MountFlags) -> str:
    return "|".join(str(flag.name).split("_", 1)[1] for flag in flags)


def _order(node: Node) -> tuple[str, str, tuple[int, int]]:
    return node.mnt_point, node.mnt_root, node.sb_dev


def _is_below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _relative(path: str, directory: str) -> str:
    return "/" + path[len(directory.rstrip("/")) :].strip("/")


def _node(mount: Mount, children: Iterable[Node], **changes: object) -> Node:
    fields = {
        "mnt_point": mount.mnt_point or "",
        "mnt_root": mount.mnt_root,
        "fs_type": mount.fs_type,
        "sb_source": mount.sb_source,
        "sb_dev": mount.sb_dev,
        "mnt_attr": mount.mnt_attr,
        "mnt_propagation": mount.mnt_propagation,
        "mnt_peer_group": mount.mnt_peer_group,
        "mnt_master": mount.mnt_master,
        "uidmap": mount.uidmap,
        "gidmap": mount.gidmap,
        "children": tuple(sorted(children, key=_order)),
    }
    return Node(**{**fields, **changes})  # type: ignore[arg-type]


def _by_parent(table: Iterable[Mount]) -> Mapping[int, list[Mount]]:
    children: defaultdict[int, list[Mount]] = defaultdict(list)
    for mount in table:
        if mount.mnt_parent_id != mount.mnt_id:
            children[mount.mnt_parent_id].append(mount)
    return children


def tree_of(table: list[Mount], top: Mount) -> Node:
    """Return the part of a mount table that starts at *top*, as it is."""
    children = _by_parent(table)

    def subtree(mount: Mount) -> Node:
        return _node(mount, (subtree(child) for child in children.get(mount.mnt_id, ())))

    return subtree(top)


def namespace_tree(ns_fd: int = -1) -> Node:
    """Return what the mount namespace *ns_fd* holds; without one, the caller's own.

    From outside the tree starts at the mount that lies on the hidden base. From inside it starts
    at the caller's root: in a stack, the topmost.

    From outside all mounts are listed, so that their number must be the one the namespace counts:
    a mount that was copied without a place in the tree is in no list, but it is counted.
    """
    table = mount_table(ns_fd=ns_fd)
    if ns_fd >= 0 and mnt_id_of("/") not in {mount.mnt_id for mount in table}:
        counted, points = mnt_get_info(ns_fd).nr_mounts, [mount.mnt_point for mount in table]
        if counted != len(table):
            came = f"NS_MNT_GET_INFO counts {counted} mounts, listmount lists {len(table)}"
            raise DeviationError(
                f"the namespace counts {counted} mounts (NS_MNT_GET_INFO), but has {len(table)} in "
                f"its tree (listmount): {points}",
                Deviation(came=came, rule="R4"),
            )
    return tree_of(table, _lowest(table))


def _lowest(table: list[Mount]) -> Mount:
    """The mount that lies on none of the others; a younger one may lie below an older."""
    ids = {mount.mnt_id for mount in table}
    lowest = [mount for mount in table if mount.mnt_parent_id not in ids - {mount.mnt_id}]
    if len(lowest) != 1:
        came = f"listmount lists {len(lowest)} mounts on the namespace's base"
        raise DeviationError(
            f"expected one mount on the namespace's base, found {lowest}",
            Deviation(expected="one", came=came, rule="Y1"),
        )
    return lowest[0]


def base_of(ns_fd: int) -> Mount:
    """Return the hidden mount below all that the namespace *ns_fd* lists."""
    return statmount(_lowest(mount_table(ns_fd=ns_fd)).mnt_parent_id, ns_fd=ns_fd)


def is_mnt_ns_file(mount: Mount) -> bool:
    """Return whether *mount* is a bind mount of a mount namespace's file."""
    return mount.fs_type == "nsfs" and mount.mnt_root.startswith("mnt:[")


def _propagation(mount: Mount, *, foreign: bool) -> dict[str, object]:
    """Type, peer group and master of a copy of *mount*.

    An owner's copy joins the peer group of its source. A foreign caller's copy of a shared mount
    receives from that group and gives nothing back; what else it was, it stays.
    """
    shared = bool(mount.mnt_peer_group)
    if not foreign or not shared:
        return {}
    return {
        "mnt_propagation": (mount.mnt_propagation & ~(MS_SHARED | MS_PRIVATE)) | MS_SLAVE,
        "mnt_peer_group": 0,
        "mnt_master": mount.mnt_peer_group,
    }


def predict(
    table: list[Mount], mnt_id: int, directory: str, *, recursive: bool, foreign: bool
) -> Node:
    """Return the tree the new namespace must hold, for a call that must succeed.

    :param table: the caller's mount table before the call.
    :param mnt_id: the mount the path leads to (of a stack: the one named, mostly the topmost).
    :param directory: the path of the directory, without symbolic links, as the caller sees it.
    :param recursive: whether AT_RECURSIVE is given.
    :param foreign: whether the caller's user namespace does not own its mount namespace. Such a
        caller gets unbindable mounts too, since leaving one out would reveal what it covers.
    """
    source = next(mount for mount in table if mount.mnt_id == mnt_id)
    if source.mnt_point is None:
        raise ValueError(f"{source} is out of the caller's sight, and no path leads to it")
    mounts_on = _by_parent(table)

    def copy(mount: Mount) -> Node:
        children = (
            copy(child)
            for child in mounts_on.get(mount.mnt_id, ())
            if child.mnt_point is not None
            and _is_below(child.mnt_point, directory)
            and (foreign or MS_UNBINDABLE not in child.mnt_propagation)
            and not is_mnt_ns_file(child)
        )
        return _node(
            mount,
            children if recursive else (),
            mnt_point=_relative(mount.mnt_point or "", directory),
            **_propagation(mount, foreign=foreign),
        )

    top = copy(source)
    subdirectory = _relative(directory, source.mnt_point).rstrip("/")
    root = (source.mnt_root.rstrip("/") + subdirectory) or "/"
    changes = {"mnt_point": "/", "mnt_root": root}
    return Node(**{**{name: getattr(top, name) for name in Node.__slots__}, **changes})


def predict_refusal(
    table: list[Mount],
    mnt_id: int,
    directory: str,
    *,
    recursive: bool,
    foreign: bool,
    locked: Collection[int] = (),
) -> str | None:
    """Return the errno, by name, with which a call must be refused; None when it must succeed.

    :param locked: the ids of the mounts with MNT_LOCKED, which no call tells.

    For the rest see :func:`predict`.
    """
    source = next((mount for mount in table if mount.mnt_id == mnt_id), None)
    if source is None or MS_UNBINDABLE in source.mnt_propagation:
        return "EINVAL"
    mounts_on = _by_parent(table)

    def below(mount: Mount) -> list[Mount]:
        on_it = mounts_on.get(mount.mnt_id, ())
        return [child for child in on_it if _is_below(child.mnt_point or "", directory)]

    if not recursive:
        left_out = below(source)
        covered = left_out if foreign else [each for each in left_out if each.mnt_id in locked]
        return "EINVAL" if covered else None
    todo = below(source)
    while todo:
        mount = todo.pop()
        unbindable = MS_UNBINDABLE in mount.mnt_propagation and not foreign
        if not unbindable and not is_mnt_ns_file(mount):
            todo += below(mount)
        elif mount.mnt_id in locked:
            return "EPERM"
    return None


def predict_copy(
    source: str | os.PathLike[str] | int, *, recursive: bool, foreign: bool = False
) -> Node:
    """:func:`predict` for a path of the caller, from its mount table as it is now.

    :param source: a path, which leads to the topmost mount of a stack, or the descriptor of a
        directory, which may be on a buried one (for AT_EMPTY_PATH).
    """
    if isinstance(source, int):
        directory = os.readlink(f"/proc/self/fd/{source}")
        mnt_id = mnt_id_of(source)
    else:
        directory = os.path.realpath(source)
        mnt_id = mnt_id_of(directory)
    return predict(mount_table(), mnt_id, directory, recursive=recursive, foreign=foreign)
