# SPDX-License-Identifier: GPL-2.0-only
"""Trees that make trouble: odd names, many mounts, deep ones, other file systems, lost places."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import NAMESPACE, copy, enter, mount_points
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.limits import mount_max
from tests.utils.mounts.trees import bind, readable, tmpfs, write
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    MNT_DETACH,
    MS_BIND,
    MS_REC,
)
from tests.utils.uapi.mountinfo import line_of, mountinfo, open_proc
from tests.utils.uapi.nsfs import mnt_get_info
from tests.utils.uapi.statmount import listmount, mount_table
from tests.utils.uapi.syscalls import mount, open_tree, umount2

#: Names of directories, and how mountinfo writes them.
NAMES = {
    "with space": r"with\040space",
    "tab\tbed": r"tab\011bed",
    "line\nfeed": r"line\012feed",
    "back\\slash": r"back\134slash",
    "\\040": r"\134040",
    "#hash": "#hash",
    "quote\"'": "quote\"'",
    "umlaut-\N{LATIN SMALL LETTER U WITH DIAERESIS}": "umlaut-ü",
    os.fsdecode(b"no-utf-8-\xff"): os.fsdecode(b"no-utf-8-\xff"),
    "n" * 255: "n" * 255,
}


@pytest.mark.rule("C2", "Y3")
def test_odd_names(caller: Caller, scratch: Path) -> None:
    """Mount points and roots with blanks, line feeds, backslashes and other bytes are copied as
    they are: statmount(2) gives them raw, mountinfo escaped, and both mean the same."""
    top = tmpfs(scratch / "top")
    store = tmpfs(scratch / "store")
    for name in NAMES:
        write(store / name / "file", name.encode("utf-8", "replace").decode())
        bind(store / name, top / name)
    files = readable(top)
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    proc = open_proc()
    caller.act()

    fd = copy(top, recursive=True)

    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)
    mounts = mount_table()
    lines = mountinfo(proc)
    names = {f"/{name}": f"/{escaped}" for name, escaped in NAMES.items()}
    assert {m.mnt_point: m.mnt_root for m in mounts[1:]} == {name: name for name in names}
    assert {line.mount_point: line.root for line in lines[1:]} == {n: n for n in names.values()}
    assert {line.mnt_id: line for line in lines} == {m.mnt_id_old: line_of(m) for m in mounts}
    assert readable("/") == files


@pytest.mark.rule("C2", "U12")
def test_deep_places(scratch: Path) -> None:
    """A mount is copied, and its place told whole, however long the path to it is: longer than any
    path a call takes, and than what the kernel sets aside for an answer at first."""
    names = ["d" * 250] * 60
    place = Path("/", *names)
    os.chdir(tmpfs(scratch / "top"))
    for name in names:
        os.mkdir(name)
        os.chdir(name)
    mount("tmpfs", ".", "tmpfs")

    fd = copy(scratch / "top", recursive=True)

    assert [one.mnt_point for one in mount_table(ns_fd=fd)] == ["/", str(place)]


@pytest.mark.rule("C2", "Y4")
@pytest.mark.room(mounts=400)
def test_more_mounts_than_a_page(scratch: Path) -> None:
    """A copy of 320 mounts is complete, and its list the same in pages of every size."""
    top = tmpfs(scratch / "top")
    (top / "source").mkdir()
    for number in range(319):
        bind(top / "source", top / str(number))
    expected = predict_copy(top, recursive=True)

    fd = copy(top, recursive=True)

    assert namespace_tree(fd).lines() == expected.lines()
    assert mnt_get_info(fd).nr_mounts == 320
    whole = listmount(ns_fd=fd, page=1024)
    assert (len(whole), sorted(set(whole))) == (320, whole)
    pages = {size: listmount(ns_fd=fd, page=size) for size in (7, 64, 319, 320, 321)}
    assert pages == dict.fromkeys(pages, whole)
    assert listmount(ns_fd=fd, page=64, reverse=True) == whole[::-1]


@pytest.mark.rule("C2")
def test_deep_tree(caller: Caller, scratch: Path) -> None:
    """Mounts nine deep, of file systems, directories and files in turn, come along at their depth,
    each with its own root."""
    top = tmpfs(scratch / "top", "0.txt")
    level = top
    for depth in range(1, 9):
        inner = level / f"d{depth}"
        if depth % 2:
            tmpfs(inner, f"{depth}.txt", f"sub/{depth}.txt")
        else:
            bind(level / "sub", inner)
        level = inner
    bind(top / "0.txt", level / "7.txt")
    files = readable(top)
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert copied.lines() == expected.lines()
    assert [len(line) - len(line.lstrip(" ")) for line in copied.lines()] == [*range(0, 40, 4)]
    enter(fd)
    assert readable("/") == files


@pytest.mark.rule("C2", "C3")
def test_binds_of_sub_directories(caller: Caller, scratch: Path) -> None:
    """A bind of a sub-directory keeps that root, as the source, below it, and as a child; a tree
    bound recursively into itself is copied as often as it was bound."""
    top = tmpfs(scratch / "top", "dir/inner/file", "dir/file")
    tmpfs(top / "dir/inner/mounted", "mounted.txt")
    bound = bind(top / "dir", scratch / "bound", recursive=True)
    bind(top / "dir", top / "self", recursive=True)
    bind(top, top / "self/inner", recursive=True)
    sources = (top, bound, bound / "inner", top / "self/inner/dir")
    foreign = caller.foreign
    expected = [predict_copy(s, recursive=True, foreign=foreign) for s in sources]
    files = [readable(source) for source in sources]
    caller.act()

    fds = [copy(source, recursive=True) for source in sources]

    copies = [namespace_tree(fd) for fd in fds]
    assert [copied.lines() for copied in copies] == [tree.lines() for tree in expected]
    assert [copied.mnt_root for copied in copies] == ["/", "/dir", "/dir/inner", "/dir"]
    inside = []
    for fd in fds:
        enter(fd)
        inside.append(readable("/"))
    assert inside == files


@pytest.mark.rule("C2")
@pytest.mark.parametrize(
    ("fs_type", "options"),
    [
        pytest.param("proc", None, id="proc"),
        pytest.param("devpts", "newinstance", id="devpts", marks=pytest.mark.needs("devpts")),
        pytest.param("overlay", "", id="overlay", marks=pytest.mark.needs("overlayfs")),
    ],
)
def test_children_of_other_file_systems(fs_type: str, options: str | None, scratch: Path) -> None:
    """proc, devpts and overlay mounts below the directory are copied like any other, and shown."""
    top = tmpfs(scratch / "top")
    place = top / "place"
    if fs_type == "proc":
        bind(Path("/proc/self/ns"), place)  # which every kernel has
    elif fs_type == "overlay":
        tmpfs(scratch / "layers", "lower/low.txt", "upper/up.txt").joinpath("work").mkdir()
        layers = {f"{name}dir": scratch / f"layers/{name}" for name in ("lower", "upper", "work")}
        place.mkdir()
        text = ",".join(f"{key}={path}" for key, path in layers.items())
        mount("overlay", place, "overlay", 0, text)
    else:
        place.mkdir()
        mount(fs_type, place, fs_type, 0, options)
    names = sorted(os.listdir(place))
    expected = predict_copy(top, recursive=True)

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert copied.lines() == expected.lines()
    assert copied.children[0].fs_type == fs_type
    enter(fd)
    assert sorted(os.listdir("/place")) == names != []


@pytest.mark.rule("C2")
def test_roots_that_are_deleted(caller: Caller, scratch: Path) -> None:
    """A bind of a directory or file that has been removed since is copied and stays what it is."""
    top = tmpfs(scratch / "top", "dir/file", "single")
    bind(top / "dir", top / "bound")
    bind(top / "single", top / "link")
    (top / "dir/file").unlink()
    (top / "dir").rmdir()
    (top / "single").unlink()
    expected = predict_copy(top, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert [child.mnt_root for child in copied.children] == ["/dir//deleted", "/single//deleted"]
    assert copied.lines() == expected.lines()
    enter(fd)
    assert readable("/") == {"link": "single"}
    fails(errno.ENOENT, write, Path("/bound/new"))


@pytest.mark.rule("C4")
def test_mount_point_unlinked_outside(caller: Caller, scratch: Path) -> None:
    """A directory that is a mount point only in the new namespace can be removed from outside;
    the mount there goes with it, locked or not, and no other."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "gone", "gone.txt")
    tmpfs(top / "gone/below", "below.txt")
    tmpfs(top / "kept", "kept.txt")
    here = os.open(top, os.O_PATH | os.O_DIRECTORY)
    tree = ["/", "/gone", "/gone/below", "/kept"]
    caller.act()
    fd = copy(top, recursive=True)
    assert sorted(mount_points(fd)) == tree
    fails(errno.EBUSY, os.rmdir, "gone", dir_fd=here)

    # In a third namespace, in which only the directory is there.
    enter(copy(top / "kept", recursive=True))
    os.rmdir("gone", dir_fd=here)

    assert mount_points(fd) == ["/", "/kept"]
    assert mnt_get_info(fd).nr_mounts == 2
    enter(fd)
    assert readable("/") == {"kept/kept.txt": "kept.txt"}


@pytest.mark.rule("C11")
@pytest.mark.needs("root", "debugfs automount")  # debugfs is no file system for user namespaces
def test_automounts_are_copied_as_mounts(caller: Caller, scratch: Path) -> None:
    """A triggered automount below the directory is copied as a mount like any other: expiry does
    not take it away, and in a foreign caller's copy it is locked like the rest."""
    place = scratch / "debug"
    place.mkdir()
    mount("debugfs", place, "debugfs")
    os.close(os.open(place / "tracing", os.O_RDONLY | os.O_DIRECTORY))
    expected = predict_copy(place, recursive=True, foreign=caller.foreign)
    caller.act()

    fd = open_tree(AT_FDCWD, place, NAMESPACE | AT_RECURSIVE | AT_NO_AUTOMOUNT)

    copied = namespace_tree(fd)
    assert copied.lines() == expected.lines()
    assert copied.mount_points() == ["/", "/tracing"]
    enter(fd)
    detached = outcome(umount2, "/tracing", MNT_DETACH)
    assert detached == ("EINVAL" if caller.foreign else "success")


@pytest.mark.rule("C12", "T5")
# fs.mount-max is the machine's, and is lowered.
@pytest.mark.needs("root", "expendable kernel", "sysctl")
@pytest.mark.room(mounts=1200)
def test_mount_max_does_not_count_for_the_copy(scratch: Path) -> None:
    """A tree of more mounts than fs.mount-max allows is copied whole; inside, the next mount is
    ENOSPC, until there is room again, and so is a tree for which there is not room enough."""
    limit = 1000  # above what cases that run at the same time have mounted
    top = tmpfs(scratch / "top")
    with mount_max() as set_mount_max:
        for number in range(10):
            bind(top, top / str(number), recursive=True)
        set_mount_max(limit)
        fd = copy(top, recursive=True)
        enter(fd)
        full = outcome(mount, "/0", "/1", None, MS_BIND)
        umount2("/9", MNT_DETACH)
        room = outcome(mount, "/0", "/1", None, MS_BIND)
        tree = outcome(mount, "/", "/0", None, MS_BIND | MS_REC)

    assert (full, room, tree) == ("ENOSPC", "success", "ENOSPC")
    assert mnt_get_info(fd).nr_mounts == 512 + 1
