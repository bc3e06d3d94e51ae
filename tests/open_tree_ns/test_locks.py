# SPDX-License-Identifier: GPL-2.0-only
"""What may be taken apart again: mounts locked together in a foreign copy, free in an owner's."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.utils.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MOUNT_ATTR_NOSUID,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_MOVE,
    MS_NOSUID,
    MS_REC,
    MS_SLAVE,
    MS_UNBINDABLE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.expect import outcome, refused
from tests.utils.locks import detaching, ends, is_locked, locks
from tests.utils.model import namespace_tree, predict_copy
from tests.utils.mounts import listmount, mount_table, statmount
from tests.utils.nsfs import ns_id
from tests.utils.process import in_child
from tests.utils.syscalls import (
    attach,
    mount,
    mount_setattr,
    move_mount,
    open_tree,
    setns,
    umount2,
)
from tests.utils.trees import bind, fresh_tmpfs, propagation, tmpfs, write
from tests.utils.unlocked import leave_locks_behind
from tests.utils.userns import become_foreign

SINGLE = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
FLAGS = SINGLE | AT_RECURSIVE
FOREIGN = pytest.mark.needs("user namespace")


def nested_tree(scratch: Path) -> Path:
    """Mounts side by side and on each other, and empty directories."""
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "a", "a.txt")
    tmpfs(top / "a" / "inner", "inner.txt")
    tmpfs(top / "b", "b.txt")
    for name in ("own", "elsewhere", "a/own"):
        (top / name).mkdir()
    return top


def enter_foreign_copy(top: Path) -> None:
    """Be the owner of a namespace whose mounts are all locked: a foreign caller's copy."""
    become_foreign()
    setns(open_tree(AT_FDCWD, top, FLAGS), CLONE_NEWNS)


@FOREIGN
@pytest.mark.rule("K1")
@pytest.mark.upstream("open_tree_ns_userns.umount_fails_einval")
def test_umount_fails_einval(scratch: Path) -> None:
    """In a foreign caller's copy no mount can be unmounted, neither the top nor any child."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert [mount.mnt_point for mount in before] == ["/", "/a", "/a/inner", "/b"]

    for mounted in reversed(before):
        for flags in (MNT_DETACH, 0):
            with refused(errno.EINVAL):
                umount2(mounted.mnt_point, flags)

    assert mount_table() == before


@pytest.mark.rule("K4")
@pytest.mark.upstream("open_tree_ns_userns.umount_succeeds")
@pytest.mark.usefixtures("unlocked")
def test_umount_succeeds(scratch: Path) -> None:
    """In an owner's copy every mount can be detached, the top too; empty nullfs is what remains,
    and the source keeps all its mounts."""
    top = nested_tree(scratch)
    source = mount_table()
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    fd = open_tree(AT_FDCWD, top, FLAGS)
    base = statmount(listmount(ns_fd=fd)[0], ns_fd=fd).mnt_parent_id
    setns(fd, CLONE_NEWNS)
    mount(None, "/", None, MS_SLAVE | MS_REC)

    mounted = mount_table()
    for child in reversed(mounted):
        umount2(child.mnt_point, MNT_DETACH)
        gone = mounted.pop()
        if gone.mnt_point != "/":
            assert mount_table() == mounted

    setns(fd, CLONE_NEWNS)
    remains = statmount(base)
    assert [mount.mnt_id for mount in mount_table()] == [base]
    assert (remains.fs_type, os.listdir("/")) == ("nullfs", [])
    setns(here, CLONE_NEWNS)
    assert mount_table() == source


def moves() -> dict[str, str]:
    """Every way to move a child or the root of the tree of nested_tree()."""
    into, beneath = 0, MOVE_MOUNT_BENEATH
    return {
        "the root": outcome(lambda: move_mount(AT_FDCWD, "/", AT_FDCWD, "/own", into)),
        "beneath": outcome(lambda: move_mount(AT_FDCWD, "/a/inner", AT_FDCWD, "/b", beneath)),
        "a child": outcome(lambda: move_mount(AT_FDCWD, "/a", AT_FDCWD, "/elsewhere", into)),
        "MS_MOVE": outcome(lambda: mount("/b", "/own", None, MS_MOVE)),
    }


@FOREIGN
@pytest.mark.rule("K1")
def test_locked_mounts_cannot_be_moved(scratch: Path) -> None:
    """In a foreign caller's copy no mount can be moved away: EINVAL, whatever call is used."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert moves() == dict.fromkeys(["the root", "a child", "MS_MOVE", "beneath"], "EINVAL")
    assert mount_table() == before


@FOREIGN
@pytest.mark.rule("K1", "K2")
def test_single_foreign_copy_is_locked(scratch: Path) -> None:
    """A foreign copy made without AT_RECURSIVE is locked like any other: it cannot be detached,
    and its restrictions cannot be taken off."""
    leaf = tmpfs(scratch / "leaf", flags=MS_NOSUID)
    become_foreign()
    fd = open_tree(AT_FDCWD, leaf, SINGLE)
    setns(fd, CLONE_NEWNS)
    before = mount_table(ns_fd=fd)

    found = {
        "clearing nosuid": outcome(
            lambda: mount_setattr(AT_FDCWD, "/", attr_clr=MOUNT_ATTR_NOSUID)
        ),
        **detaching("/"),
    }

    assert found == {"clearing nosuid": "EPERM", **ends("EINVAL")}
    assert mount_table(ns_fd=fd) == before


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_unlocked_mounts_can_be_moved(scratch: Path) -> None:
    """In an owner's copy each child can be moved, also beneath another; the root is refused only
    because it cannot go into itself: ELOOP."""
    setns(open_tree(AT_FDCWD, nested_tree(scratch), FLAGS), CLONE_NEWNS)
    assert moves() == {
        "the root": "ELOOP",
        **dict.fromkeys(["a child", "MS_MOVE", "beneath"], "allowed"),
    }
    assert sorted(os.listdir("/elsewhere")) == ["a.txt", "inner", "own"]


@FOREIGN
@pytest.mark.rule("K1")
def test_later_mounts_are_free(scratch: Path) -> None:
    """What the owner of a foreign copy mounts there itself can be moved and unmounted, also from
    on top of a locked mount, which is as locked as before."""
    enter_foreign_copy(nested_tree(scratch))
    tmpfs(Path("/own"))
    tmpfs(Path("/a/own"))
    tmpfs(Path("/b"))
    move_mount(AT_FDCWD, "/a/own", AT_FDCWD, "/elsewhere", 0)
    assert [mount.mnt_point for mount in mount_table()[4:]] == ["/own", "/elsewhere", "/b"]

    for path in ("/own", "/elsewhere", "/b"):
        umount2(path, MNT_DETACH)

    assert locks() == {"/a": True, "/a/inner": True, "/b": True}
    assert Path("/b/b.txt").read_text() == "b.txt"


@FOREIGN
@pytest.mark.rule("K1")
def test_copies_of_locked_mounts(scratch: Path) -> None:
    """Bind mounts cannot show what a locked child covers either: a single one is EINVAL, a
    recursive one keeps the children locked, and only its top is free."""
    enter_foreign_copy(nested_tree(scratch))
    before = mount_table()
    assert {
        "bind": outcome(lambda: mount("/", "/own", None, MS_BIND)),
        "clone": outcome(lambda: open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE)),
        "bind of /a": outcome(lambda: mount("/a", "/own", None, MS_BIND)),
    } == {"bind": "EINVAL", "clone": "EINVAL", "bind of /a": "EINVAL"}
    assert mount_table() == before

    bind(Path("/b"), Path("/own"))
    attach(open_tree(AT_FDCWD, "/a", OPEN_TREE_CLONE | AT_RECURSIVE), "/elsewhere")

    assert locks() == {
        "/a": True,
        "/a/inner": True,
        "/b": True,
        "/own": False,
        "/elsewhere": False,
        "/elsewhere/inner": True,
    }


@FOREIGN
@pytest.mark.rule("K3")
@pytest.mark.parametrize(
    ("over", "beneath"),
    [
        pytest.param(0, 0, id="locked"),
        pytest.param(1, 0, id="one_over_it"),
        pytest.param(3, 0, id="three_over_it"),
        pytest.param(
            0, 2, id="lock_passed_down", marks=pytest.mark.needs("MOVE_MOUNT_BENEATH on the root")
        ),
    ],
)
def test_copy_below_a_locked_root(over: int, beneath: int, scratch: Path) -> None:
    """A locked mount anywhere in the stack on the root of the caller's namespace locks the top of
    an owner's copy, be it of a child or of a tmpfs that never was in that namespace."""
    enter_foreign_copy(nested_tree(scratch))
    for _ in range(over):
        attach(fresh_tmpfs(), "/")
    for _ in range(beneath):
        move_mount(fresh_tmpfs(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH)

    copies = [
        open_tree(AT_FDCWD, "/b", SINGLE),
        open_tree(fresh_tmpfs(), "", SINGLE | AT_EMPTY_PATH),
    ]

    for fd in copies:
        setns(fd, CLONE_NEWNS)
        with refused(errno.EINVAL):
            umount2("/", MNT_DETACH)
        assert len(mount_table()) == 1


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_copy_below_an_unlocked_stack(scratch: Path) -> None:
    """However many mounts lie on the root of the caller's namespace: where none of them is locked
    the top of an owner's copy is free."""
    top = tmpfs(scratch / "top")
    for _ in range(3):
        attach(fresh_tmpfs(), "/")
    setns(open_tree(AT_FDCWD, top, SINGLE), CLONE_NEWNS)

    umount2("/", MNT_DETACH)

    assert mount_table() == []


@FOREIGN
@pytest.mark.rule("K3", "K4")
@pytest.mark.needs("UNSHARE_EMPTY_MNTNS")
def test_lock_of_the_source_stays_behind(scratch: Path) -> None:
    """What was locked to its place as a child is free as the top of an owner's copy: there is
    nothing below it but the base. Only the root of the caller's namespace decides."""
    top = nested_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_foreign_copy(top)
    leave_locks_behind()
    assert is_locked("/b")
    setns(open_tree(AT_FDCWD, "/b", SINGLE), CLONE_NEWNS)

    found = detaching("/")

    assert found == ends("allowed")
    assert mount_table() == []


@FOREIGN
@pytest.mark.rule("K3", "K5")
def test_recursive_copy_keeps_each_lock(scratch: Path) -> None:
    """A recursive owner's copy, and the copy of that copy, have the locks of their source: locked
    children are locked, the caller's own mounts are free."""
    enter_foreign_copy(nested_tree(scratch))
    tmpfs(Path("/own"))
    tmpfs(Path("/a/own"))
    found = locks()
    assert found == {"/a": True, "/a/inner": True, "/b": True, "/own": False, "/a/own": False}

    for _ in range(2):
        setns(open_tree(AT_FDCWD, "/", FLAGS), CLONE_NEWNS)
        assert locks() == found


@FOREIGN
@pytest.mark.rule("K1")
def test_foreign_copy_of_a_copy_locks_all(scratch: Path) -> None:
    """A foreign copy of a copy locks what was free in its source, too."""
    top = nested_tree(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_foreign_copy(top)
    tmpfs(Path("/own"))
    assert not is_locked("/own")
    enter_foreign_copy(Path("/"))
    assert {path: locked for path, locked in locks().items() if not path.startswith("/proc")} == {
        "/a": True,
        "/a/inner": True,
        "/b": True,
        "/own": True,
    }


@FOREIGN
@pytest.mark.rule("K5")
def test_single_copy_with_a_locked_child(scratch: Path) -> None:
    """Without AT_RECURSIVE a directory is EINVAL, for the owner too, exactly when a locked mount
    lies on or below it; the owner's own mounts there do not count."""
    top = nested_tree(scratch)
    write(top / "dir/sub/file")
    bind(top / "top.txt", top / "dir/sub/file")
    (top / "dir/empty").mkdir()
    enter_foreign_copy(top)
    tmpfs(Path("/own"))
    tmpfs(Path("/elsewhere/mine"))
    directories = ["/", "/a", "/dir", "/dir/sub", "/dir/empty", "/b", "/own", "/elsewhere"]

    found = {path: outcome(partial(open_tree, AT_FDCWD, path, SINGLE)) for path in directories}

    covered = ["/", "/a", "/dir", "/dir/sub"]
    assert found == {path: "EINVAL" if path in covered else "allowed" for path in directories}


@FOREIGN
@pytest.mark.rule("K6")
@pytest.mark.fixed_by(
    "0febe278ec45", "7.2.11", "namespace: keep covered mounts covered in OPEN_TREE_NAMESPACE"
)
def test_foreign_single_copy(scratch: Path) -> None:
    """A foreign caller without AT_RECURSIVE is refused with EINVAL exactly when something is
    mounted on or below the directory: a directory, a file, deeper down, or a mount over it."""
    top = nested_tree(scratch)
    write(top / "dir/sub/file")
    bind(top / "top.txt", top / "dir/sub/file")
    (top / "dir/empty").mkdir()
    tmpfs(top / "stack", "buried")
    buried = os.open(top / "stack", os.O_PATH)
    tmpfs(top / "stack", "visible")
    before = mount_table()
    become_foreign()
    covered = ["", "a", "dir", "dir/sub"]
    leaves = ["a/inner", "b", "dir/empty", "own", "stack"]

    found = {
        path: outcome(partial(open_tree, AT_FDCWD, top / path, SINGLE))
        for path in [*covered, *leaves]
    }
    found["buried"] = outcome(lambda: open_tree(buried, "", SINGLE | AT_EMPTY_PATH))

    assert found == {
        **dict.fromkeys([*covered, "buried"], "EINVAL"),
        **dict.fromkeys(leaves, "allowed"),
    }
    assert mount_table() == before


@FOREIGN
@pytest.mark.rule("K7")
@pytest.mark.fixed_by("-", "7.2.11", "mount: keep a copied mount unbindable")
def test_locked_and_unbindable(scratch: Path) -> None:
    """A child that is locked and unbindable can neither be copied nor left out: each recursive
    copy is EPERM; beside it all is as usual."""
    top = nested_tree(scratch)
    propagation(top / "a" / "inner", MS_UNBINDABLE)
    enter_foreign_copy(top)
    before = mount_table()
    clone, namespace = OPEN_TREE_CLONE | AT_RECURSIVE, FLAGS

    found = {
        "namespace": outcome(lambda: open_tree(AT_FDCWD, "/", namespace)),
        "namespace of /a": outcome(lambda: open_tree(AT_FDCWD, "/a", namespace)),
        "clone": outcome(lambda: open_tree(AT_FDCWD, "/a", clone)),
        "rbind": outcome(lambda: mount("/a", "/own", None, MS_BIND | MS_REC)),
        "itself": outcome(lambda: open_tree(AT_FDCWD, "/a/inner", namespace)),
        "/b": outcome(lambda: open_tree(AT_FDCWD, "/b", namespace)),
    }

    assert found == {
        **dict.fromkeys(["namespace", "namespace of /a", "clone", "rbind"], "EPERM"),
        "itself": "EINVAL",
        "/b": "allowed",
    }
    assert mount_table() == before


@FOREIGN
@pytest.mark.rule("K7")
def test_unbindable_below_a_lock_of_ones_own(scratch: Path) -> None:
    """The owner of a locked namespace may leave out an unbindable mount of its own as anywhere."""
    enter_foreign_copy(nested_tree(scratch))
    propagation(tmpfs(Path("/own")), MS_UNBINDABLE)
    expected = predict_copy("/", recursive=True)
    fd = open_tree(AT_FDCWD, "/", FLAGS)
    assert namespace_tree(fd).mount_points() == ["/", "/a", "/a/inner", "/b"]
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("K4")
@pytest.mark.usefixtures("unlocked")
def test_stack_that_is_gone_does_not_count(scratch: Path) -> None:
    """Mounts that lay on the root of the caller's namespace and were taken off again have no part
    in the next copy: its top is free, and all of it is what it should be."""
    top = tmpfs(scratch / "top")
    for _ in range(3):
        tree = fresh_tmpfs()
        attach(tree, "/")
        os.fchdir(tree)
        umount2(".", MNT_DETACH)
    setns(open_tree(AT_FDCWD, top, SINGLE), CLONE_NEWNS)
    assert [mount.fs_type for mount in mount_table()] == ["tmpfs"]
    umount2("/", MNT_DETACH)
    assert mount_table() == []


@FOREIGN
@pytest.mark.rule("K1", "T1")
def test_detached_locked_trees_hide_and_end(scratch: Path) -> None:
    """Trees with locked mounts in them are bound and lazily unmounted, in each other. Directories
    held open in there do not show what the locked mounts covered; and with its last task the
    namespace ends, held or not."""
    top = tmpfs(scratch / "top", "covered/under.txt")
    tmpfs(top / "covered", "cover.txt", "deep/under.txt")
    tmpfs(top / "covered" / "deep", "deep.txt")
    for name in ("one", "two"):
        (top / name).mkdir()

    def inside() -> tuple[int, dict[str, str]]:
        become_foreign()
        fd = open_tree(AT_FDCWD, top, FLAGS)
        mnt_ns_id = ns_id(fd)
        setns(fd, CLONE_NEWNS)
        before = mount_table()
        bind(Path("/covered"), Path("/one"), recursive=True)
        attach(open_tree(AT_FDCWD, "/", OPEN_TREE_CLONE | AT_RECURSIVE), "/two")
        paths = ("/one", "/one/deep", "/two", "/two/covered", "/two/covered/deep", "/two/one")
        held = {path: os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in paths}
        umount2("/two", MNT_DETACH)
        umount2("/one", MNT_DETACH)
        assert mount_table() == before
        seen = {
            "deep/under.txt in /one": outcome(
                lambda: os.stat("deep/under.txt", dir_fd=held["/one"])
            ),
            "covered/under.txt in /two": outcome(
                lambda: os.stat("covered/under.txt", dir_fd=held["/two"])
            ),
            "deep/under.txt in /two/covered": outcome(
                lambda: os.stat("deep/under.txt", dir_fd=held["/two/covered"])
            ),
            "deep/under.txt in /two/one": outcome(
                lambda: os.stat("deep/under.txt", dir_fd=held["/two/one"])
            ),
        }
        return mnt_ns_id, seen

    mnt_ns_id, seen = in_child(inside)
    assert seen == dict.fromkeys(seen, "ENOENT")
    assert outcome(lambda: listmount(ns_id=mnt_ns_id)) == "ENOENT"
