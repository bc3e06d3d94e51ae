# SPDX-License-Identifier: GPL-2.0-only
"""MOVE_MOUNT_BENEATH below the root: what may go where, in a namespace made by the flag.

The root itself is test_root_swap.py's; locks are test_lock_transfer.py's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.beneath import ends_of, move_beneath, open_mount
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import attach_beneath, clone, copy, enter, mount_points
from tests.open_tree_ns.trees import nested_tree, tree_with_proc
from tests.utils.expect import outcome
from tests.utils.mounts.trees import bind, fresh_tmpfs, tmpfs, write
from tests.utils.tasks.process import holding
from tests.utils.uapi.caps import CAP_SYS_ADMIN, drop
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_AUTOMOUNTS,
    MOVE_MOUNT_F_EMPTY_PATH,
    MOVE_MOUNT_F_SYMLINKS,
    MOVE_MOUNT_T_AUTOMOUNTS,
    MOVE_MOUNT_T_EMPTY_PATH,
    MOVE_MOUNT_T_SYMLINKS,
    MS_SHARED,
)
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import mount, move_mount, umount2

pytestmark = pytest.mark.needs("MOVE_MOUNT_BENEATH on the root")

BY_DESCRIPTORS = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH


def stack_at(path: str) -> list[int]:
    """Return the ids of the mounts on *path*, the lowest first."""
    on = {mount.mnt_parent_id: mount.mnt_id for mount in mount_table() if mount.mnt_point == path}
    (lowest,) = on.keys() - {*on.values()}
    stack = [on[lowest]]
    while stack[-1] in on:
        stack.append(on[stack[-1]])
    return stack


@pytest.mark.rule("B2")
@pytest.mark.needs("user namespace")
def test_privilege(scratch: Path) -> None:
    """It takes CAP_SYS_ADMIN over the owner of the mount namespace, which a foreign caller lacks:
    EPERM, before the flags are looked at."""
    tmpfs(scratch / "top")
    tree = fresh_tmpfs()
    before = mount_table()
    flags = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH

    def ends() -> list[str]:
        return [
            outcome(move_mount, tree, "", AT_FDCWD, scratch / "top", flags),
            outcome(move_mount, tree, "", AT_FDCWD, scratch / "top", flags | 1 << 30),
        ]

    drop(CAP_SYS_ADMIN)
    unprivileged = ends()
    Caller.FOREIGN.act()

    assert [unprivileged, ends()] == [["EPERM", "EPERM"]] * 2
    assert mount_table() == before


@pytest.mark.rule("B3", "B4")
def test_detached_and_mounted_sources(caller: Caller, scratch: Path) -> None:
    """A detached tree goes beneath the topmost mount of a place, and so does a mount from elsewhere
    in the namespace, which keeps its id, with all on it; what was topmost stays so."""
    top = tmpfs(scratch / "top")
    for name in ("place", "from"):
        (top / name).mkdir()
    caller.act()
    enter(copy(top, recursive=True))
    over = [mnt_id_of(tmpfs(Path("/place"), "low")), mnt_id_of(tmpfs(Path("/place"), "high"))]
    moved = mnt_id_of(tmpfs(Path("/from"), "from.txt"))
    tmpfs(Path("/from/child"), "child.txt")
    tree = fresh_tmpfs()

    attach_beneath(tree, "/place")
    move_beneath("/from", "/place")

    expected = [over[0], mnt_id_of(tree), moved, over[1]]
    assert stack_at("/place") == expected
    assert [statmount(number).mnt_parent_id for number in expected[1:]] == expected[:-1]
    assert os.listdir("/place") == ["high"]
    assert os.listdir("/from") == []
    umount2("/place")
    assert sorted(os.listdir("/place")) == ["child", "from.txt"]
    assert os.listdir("/place/child") == ["child.txt"]


@pytest.mark.rule("B3")
def test_buried_target(scratch: Path) -> None:
    """A descriptor of a buried mount names the place, and so does one of the topmost: what is moved
    goes beneath the topmost either way."""
    enter(copy(nested_tree(scratch), recursive=True))
    buried = open_mount("/a")
    over = mnt_id_of(tmpfs(Path("/a"), "over.txt"))
    trees = [fresh_tmpfs(), fresh_tmpfs()]
    for tree, target in zip(trees, (buried, open_mount("/a")), strict=True):
        move_mount(tree, "", target, "", BY_DESCRIPTORS)
    assert stack_at("/a") == [mnt_id_of(buried), *map(mnt_id_of, trees), over]
    assert os.listdir("/a") == ["over.txt"]


@pytest.mark.rule("B3", "BK3")
def test_namespace_file_from_elsewhere(scratch: Path) -> None:
    """The file of a mount namespace that is mounted elsewhere goes beneath like any other mount:
    what was topmost lies on it, and stays visible."""
    enter(copy(tree_with_proc(scratch), recursive=True))
    bind(write(Path("/own"), "own"), Path("/file"))
    own, newer = mnt_id_of("/file"), copy("/proc")
    elsewhere = bind(Path(f"/proc/self/fd/{newer}"), write(Path("/elsewhere")))
    moved = mnt_id_of(elsewhere)

    move_beneath("/elsewhere", "/file")

    assert stack_at("/file") == [moved, own]
    assert (mnt_id_of("/file"), Path("/file").read_text()) == (own, "own")
    umount2("/file", MNT_DETACH)
    assert ns_inode("/file") == ns_inode(newer)


@pytest.mark.rule("B3")
def test_inside_a_detached_tree() -> None:
    """In a detached tree of one's own a mount can be put beneath another as well; beneath the root
    of that tree there is nothing to put it on: EINVAL."""
    tree, child, new = fresh_tmpfs(), fresh_tmpfs(), fresh_tmpfs()
    os.mkdir("child", dir_fd=tree)
    os.close(os.open("child.txt", os.O_CREAT | os.O_WRONLY, dir_fd=child))
    place = os.open("child", os.O_PATH, dir_fd=tree)
    move_mount(child, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)

    on_root = outcome(move_mount, new, "", tree, "", BY_DESCRIPTORS)
    move_mount(new, "", child, "", BY_DESCRIPTORS)

    assert on_root == "EINVAL"
    enter(copy("", dirfd=tree, recursive=True))
    assert mount_points() == ["/", "/child", "/child"]
    assert os.listdir("/child") == ["child.txt"]
    umount2("/child", MNT_DETACH)
    assert os.listdir("/child") == []


def check_ends(
    onto: Callable[[int], int], to_flag: int, of: Callable[[int], int], from_flag: int
) -> None:
    """Check that what moves a descriptor *onto* a path, and what moves that *of* a path, is EINVAL
    without the flag that says to go on at its end, and success with it."""
    by_fd = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH
    found = [
        outcome(onto, by_fd),
        outcome(of, MOVE_MOUNT_BENEATH),
        outcome(onto, by_fd | to_flag),
        outcome(of, MOVE_MOUNT_BENEATH | from_flag),
    ]
    assert found == ["EINVAL", "EINVAL", "success", "success"]


@pytest.mark.rule("B1")
def test_links(scratch: Path) -> None:
    """A link at the end of either path is followed when MOVE_MOUNT_T_SYMLINKS, or _F_, says so: and
    is no mount otherwise, EINVAL."""
    top = nested_tree(scratch)
    (top / "to-a").symlink_to("a")
    (top / "to-b").symlink_to("b")
    enter(copy(top, recursive=True))
    tree = fresh_tmpfs()
    onto_link = partial(move_mount, tree, "", AT_FDCWD, "/to-a")
    of_link = partial(move_mount, AT_FDCWD, "/to-b", AT_FDCWD, "/a")

    check_ends(onto_link, MOVE_MOUNT_T_SYMLINKS, of_link, MOVE_MOUNT_F_SYMLINKS)

    assert stack_at("/a")[0] == mnt_id_of(tree)
    assert len(stack_at("/a")) == 3


@pytest.mark.rule("B1")
@pytest.mark.needs("root", "debugfs automount")
def test_automounts(scratch: Path) -> None:
    """An automount at the end of either path is triggered when MOVE_MOUNT_T_AUTOMOUNTS, or _F_,
    says so: and is no mount otherwise, EINVAL."""
    top = nested_tree(scratch)
    for place in ("one", "two"):
        (top / place).mkdir()
        mount("debugfs", top / place, "debugfs")
    enter(copy(top, recursive=True))
    onto = partial(move_mount, fresh_tmpfs(), "", AT_FDCWD, "/one/tracing")
    of = partial(move_mount, AT_FDCWD, "/two/tracing", AT_FDCWD, "/a")

    check_ends(onto, MOVE_MOUNT_T_AUTOMOUNTS, of, MOVE_MOUNT_F_AUTOMOUNTS)

    kinds = {one.mnt_id: one.fs_type for one in mount_table()}
    stacks = [[kinds[number] for number in stack_at(place)] for place in ("/one/tracing", "/a")]
    assert stacks == [["tmpfs", "tracefs"], ["tracefs", "tmpfs"]]


@pytest.mark.rule("B3", "B4")
def test_refused_targets(scratch: Path) -> None:
    """What is not the root of a mount, lies in another namespace, or is no directory where the
    other is one, is no place to move beneath: EINVAL; and what was unmounted is ENOENT."""
    here = copy(nested_tree(scratch), recursive=True)
    file = bind(write(scratch / "file"), scratch / "file")
    file_tree, file_fd = clone(file), os.open(file, os.O_PATH)
    with holding(partial(enter, copy(nested_tree(scratch), recursive=True))) as other:
        elsewhere = open_mount(other.proc("root") + "/a")
        enter(here)
        own = bind(Path("/b"), Path("/own"))
        dead = open_mount(tmpfs(Path("/elsewhere")))
        umount2("/elsewhere", MNT_DETACH)
        to_fd = partial(move_mount, fresh_tmpfs(), "")
        found = ends_of(
            {
                "directory": partial(attach_beneath, fresh_tmpfs(), "/a/own"),
                "elsewhere": partial(to_fd, elsewhere, "", BY_DESCRIPTORS),
                "elsewhere, own": partial(move_mount, AT_FDCWD, own, elsewhere, "", BY_DESCRIPTORS),
                "file, of a directory": partial(attach_beneath, file_tree, "/a"),
                "directory, of a file": partial(to_fd, file_fd, "", BY_DESCRIPTORS),
                "missing": partial(attach_beneath, fresh_tmpfs(), "/missing"),
                "unmounted": partial(to_fd, dead, "", BY_DESCRIPTORS),
            }
        )
    assert found == {
        **dict.fromkeys(found, "EINVAL"),
        "missing": "ENOENT",
        "unmounted": "ENOENT",
    }


@pytest.mark.rule("B4")
def test_refused_sources(scratch: Path) -> None:
    """Nothing is moved that is not the root of a mount, is covered, lies on a shared mount, in
    another namespace, or inside a detached tree: EINVAL; nor what holds a bind of the namespace
    itself: ELOOP."""
    top = tree_with_proc(scratch)
    for name in ("a", "shared", "covered"):
        tmpfs(top / name)
    here = copy(top, recursive=True)
    elsewhere = open_mount(scratch)
    held = clone(f"/proc/self/fd/{here}")
    files = fresh_tmpfs()
    os.close(os.open("ns", os.O_CREAT | os.O_WRONLY, dir_fd=files))
    to_fd = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    move_mount(held, "", os.open("ns", os.O_PATH, dir_fd=files), "", to_fd)
    enter(here)
    mount(None, "/shared", None, MS_SHARED)
    tmpfs(Path("/shared/child"))
    (Path("/a") / "directory").mkdir()
    covered = open_mount("/covered")
    tmpfs(Path("/covered"))
    tree, inner = fresh_tmpfs(), fresh_tmpfs()
    os.mkdir("inner", dir_fd=tree)
    move_mount(inner, "", os.open("inner", os.O_PATH, dir_fd=tree), "", to_fd)
    by_fd = MOVE_MOUNT_BENEATH | MOVE_MOUNT_F_EMPTY_PATH

    found = ends_of(
        {
            "directory": partial(move_beneath, "/a/directory", "/covered"),
            "covered": partial(move_mount, covered, "", AT_FDCWD, "/a", by_fd),
            "on a shared mount": partial(move_beneath, "/shared/child", "/a"),
            "elsewhere": partial(move_mount, elsewhere, "", AT_FDCWD, "/a", by_fd),
            "inside a detached tree": partial(move_mount, inner, "", AT_FDCWD, "/a", by_fd),
            "own namespace's file": partial(attach_beneath, files, "/a"),
        }
    )

    assert found == {**dict.fromkeys(found, "EINVAL"), "own namespace's file": "ELOOP"}


@pytest.mark.rule("B4", "K1")
@pytest.mark.needs("user namespace")
def test_locked_source(scratch: Path) -> None:
    """In a foreign copy a mount that came along cannot be moved beneath another: EINVAL."""
    top = nested_tree(scratch)
    Caller.FOREIGN.act()
    enter(copy(top, recursive=True))
    tmpfs(Path("/own"))
    calls = {
        "beneath one's own": partial(move_beneath, "/b", "/own"),
        "beneath a locked one": partial(move_beneath, "/b", "/a"),
    }
    assert ends_of(calls) == dict.fromkeys(calls, "EINVAL")


@pytest.mark.rule("B5")
@pytest.mark.usefixtures("unlocked")
def test_relatives(scratch: Path) -> None:
    """Nothing goes beneath what it lies on, however deep, nor beneath itself: EINVAL; nor beneath
    what lies on it: ELOOP."""
    top = nested_tree(scratch)
    tmpfs(top / "a/inner/deep")
    enter(copy(top, recursive=True))
    tmpfs(Path("/b"), "over.txt")
    calls = {
        "child": partial(move_beneath, "/a/inner", "/a"),
        "grandchild": partial(move_beneath, "/a/inner/deep", "/a"),
        "parent": partial(move_beneath, "/a", "/a/inner"),
        "grandparent": partial(move_beneath, "/a", "/a/inner/deep"),
        "root": partial(move_beneath, "/", "/a"),
        "itself": partial(move_beneath, "/a", "/a"),
    }
    assert ends_of(calls) == {
        "child": "EINVAL",
        "grandchild": "EINVAL",
        "parent": "ELOOP",
        "grandparent": "ELOOP",
        "root": "ELOOP",
        "itself": "EINVAL",
    }
