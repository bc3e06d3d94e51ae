# SPDX-License-Identifier: GPL-2.0-only
"""The reference model on tables made by hand: a model that is wrong would let kernels be wrong."""

from __future__ import annotations

import pytest

from tests.harness.helpers.mount_tables import TABLE, made
from tests.utils.model.prediction import Node, is_mnt_ns_file, predict, tree_of
from tests.utils.uapi.constants import (
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
    MountFlags,
)
from tests.utils.uapi.mountinfo import escape, line_of, parse
from tests.utils.uapi.statmount import Mount


def points(
    table: list[Mount],
    mnt_id: int,
    directory: str,
    *,
    recursive: bool = True,
    foreign: bool = False,
) -> list[str]:
    """The mount points of the predicted copy."""
    return predict(table, mnt_id, directory, recursive=recursive, foreign=foreign).mount_points()


@pytest.mark.parametrize(
    ("mnt_id", "directory", "expected"),
    [
        (101, "/", ["/", "/t", "/t/a", "/t/a/b", "/t/ab", "/t/dir/c", "/t2"]),
        (102, "/t", ["/", "/a", "/a/b", "/ab", "/dir/c"]),
        (102, "/t/dir", ["/", "/c"]),
        (102, "/t/dir/c/x", ["/"]),
        (102, "/t/di", ["/"]),
        (103, "/t/a", ["/", "/b"]),
    ],
    ids=["root", "mount", "sub_directory", "leaf", "name_prefix", "child"],
)
def test_recursion_is_by_directory(mnt_id: int, directory: str, expected: list[str]) -> None:
    """Mounts at or below the directory are copied, relative to it; others are not."""
    assert points(TABLE, mnt_id, directory) == expected
    assert points(TABLE, mnt_id, directory, recursive=False) == ["/"]


@pytest.mark.parametrize(
    ("mnt_root", "point", "directory", "expected"),
    [
        ("/", "/", "/", "/"),
        ("/", "/", "/x/y", "/x/y"),
        ("/", "/t", "/t", "/"),
        ("/", "/t", "/t/x", "/x"),
        ("/sub", "/t", "/t", "/sub"),
        ("/sub", "/t", "/t/x", "/sub/x"),
    ],
)
def test_root_of_the_copy(mnt_root: str, point: str, directory: str, expected: str) -> None:
    """The root is the directory within the file system, also where the source is a bind."""
    copy = predict(
        [made(101, 100, point, root=mnt_root)], 101, directory, recursive=False, foreign=False
    )
    assert (copy.mnt_point, copy.mnt_root) == ("/", expected)


def test_a_stack_is_a_chain() -> None:
    """Of a stack the named mount and those on it are copied; visible() is the topmost."""
    table = [
        made(101, 100, "/"),
        made(102, 101, "/t"),
        made(103, 102, "/t"),
        made(104, 102, "/t/buried"),
        made(105, 103, "/t"),
        made(106, 105, "/t/seen"),
    ]
    whole = predict(table, 102, "/t", recursive=True, foreign=False)
    assert whole.mount_points() == ["/", "/", "/", "/seen", "/buried"]
    assert whole.visible().mount_points() == ["/", "/seen"]
    assert whole.visible().sb_dev == (0, 105)
    assert points(table, 103, "/t") == ["/", "/", "/seen"]
    assert points(table, 105, "/t") == ["/", "/seen"]
    # an overmount of the root is not below a sub-directory
    assert points(table, 102, "/t/buried2") == ["/"]
    assert whole.visible().visible() == whole.visible()


def test_unbindable_children() -> None:
    """An owner's copy leaves out an unbindable child with all on it; a foreign caller's has it."""
    table = [
        made(101, 100, "/"),
        made(102, 101, "/u", kind=MS_UNBINDABLE),
        made(103, 102, "/u/below"),
        made(104, 101, "/v"),
    ]
    assert points(table, 101, "/") == ["/", "/v"]
    foreign = predict(table, 101, "/", recursive=True, foreign=True)
    assert foreign.mount_points() == ["/", "/u", "/u/below", "/v"]
    assert foreign.children[0].mnt_propagation == MS_UNBINDABLE


@pytest.mark.parametrize("foreign", [False, True], ids=["owner", "foreign"])
def test_namespace_files(foreign: bool) -> None:
    """Files of mount namespaces are left out with what is on them, those of others are not."""
    table = [
        made(101, 100, "/"),
        made(102, 101, "/m", fs_type="nsfs", root="mnt:[4026531841]"),
        made(103, 102, "/m"),
        made(104, 101, "/n", fs_type="nsfs", root="net:[4026531840]"),
        made(105, 101, "/o", root="/mnt:[1]"),
    ]
    assert [is_mnt_ns_file(mount) for mount in table] == [False, True, False, False, False]
    assert points(table, 101, "/", foreign=foreign) == ["/", "/n", "/o"]


@pytest.mark.parametrize(
    ("source", "owner", "foreign"),
    [
        ((MS_PRIVATE, 0, 0), (MS_PRIVATE, 0, 0), (MS_PRIVATE, 0, 0)),
        ((MS_SHARED, 5, 0), (MS_SHARED, 5, 0), (MS_SLAVE, 0, 5)),
        ((MS_SLAVE, 0, 6), (MS_SLAVE, 0, 6), (MS_SLAVE, 0, 6)),
        ((MS_SHARED | MS_SLAVE, 5, 6), (MS_SHARED | MS_SLAVE, 5, 6), (MS_SLAVE, 0, 5)),
        ((MS_UNBINDABLE, 0, 0), None, (MS_UNBINDABLE, 0, 0)),
    ],
    ids=["private", "shared", "slave", "both", "unbindable"],
)
def test_propagation(
    source: tuple[MountFlags, int, int],
    owner: tuple[MountFlags, int, int] | None,
    foreign: tuple[MountFlags, int, int],
) -> None:
    """Owner's copies keep type and groups; foreign copies of shared mounts become slaves."""
    kind, peers, master = source
    table = [made(101, 100, "/"), made(102, 101, "/x", kind=kind, peers=peers, master=master)]

    def child(*, is_foreign: bool) -> list[tuple[MountFlags, int, int]]:
        copy = predict(table, 101, "/", recursive=True, foreign=is_foreign)
        return [(c.mnt_propagation, c.mnt_peer_group, c.mnt_master) for c in copy.children]

    assert child(is_foreign=False) == ([owner] if owner else [])
    assert child(is_foreign=True) == [foreign]


def test_attributes_and_id_maps_are_kept() -> None:
    """What a mount is comes along: attributes, id maps, file system; and shows in its line."""
    strict = made(102, 101, "/x", attr=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    mapped = strict._replace(uidmap=("5 0 1",), gidmap=("6 0 1",))
    copy = predict([made(101, 100, "/"), mapped], 101, "/", recursive=True, foreign=False)
    assert copy.lines() == [
        "/  tmpfs:0:101:/  source 'disk'  no attributes  PRIVATE",
        "    /x  tmpfs:0:102:/  source 'disk'  ATTR_RDONLY|ATTR_NOSUID  PRIVATE  "
        "uidmap ('5 0 1',) gidmap ('6 0 1',)",
    ]


def test_order_of_the_table_does_not_matter() -> None:
    """Two tables of the same mounts give the same tree, whatever the order of their lines."""
    forward = predict(TABLE, 101, "/", recursive=True, foreign=False)
    backward = predict(TABLE[::-1], 101, "/", recursive=True, foreign=False)
    assert forward == backward == tree_of(TABLE, TABLE[0])


def test_each_difference_shows() -> None:
    """Every fact of a node is in its lines, so that comparing lines compares trees."""
    node = tree_of(TABLE, TABLE[1])
    other = {
        "mnt_point": "/y",
        "mnt_root": "/y",
        "fs_type": "ramfs",
        "sb_source": "another disk",
        "sb_dev": (0, 1),
        "mnt_attr": MOUNT_ATTR_RDONLY,
        "mnt_propagation": MS_SHARED,
        "mnt_peer_group": 1,
        "mnt_master": 1,
        "uidmap": ("0 0 1",),
        "gidmap": ("0 0 1",),
        "children": (),
    }
    assert set(other) == set(Node.__slots__)
    same = [name for name, value in other.items() if changed(node, name, value) == node.lines()]
    assert same == []


def changed(node: Node, name: str, value: object) -> list[str]:
    """The lines of *node* with one field changed."""
    fields = {slot: getattr(node, slot) for slot in Node.__slots__}
    return Node(**{**fields, name: value}).lines()


def test_mountinfo_line() -> None:
    """A mount's line of mountinfo has the fields of the file, names escaped."""
    mount = made(
        102,
        101,
        "/a b\n",
        root="/back\\slash",
        attr=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID,
        kind=MS_SHARED | MS_SLAVE,
        peers=5,
        master=6,
    )
    text = r"2 1 0:102 /back\134slash /a\040b\012 ro,nosuid,relatime shared:5 master:6 - tmpfs x rw"
    assert parse(text) == [line_of(mount)]
    assert parse(text.replace("shared:5 ", "")) != [line_of(mount)]
    assert escape("tab\t#\\040") == "tab\\011#\\134040"
