# SPDX-License-Identifier: GPL-2.0-only
"""Which mounts are copied: all, none, or all but those the kind of caller leaves out."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter, mount_points
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, propagation, readable, tmpfs, write
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import as_foreign, become_foreign
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
    MS_UNBINDABLE,
)
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info, ns_inode
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import (
    mount,
    umount2,
)


@pytest.mark.rule("C2")
@pytest.mark.needs("user namespace")
@pytest.mark.upstream("open_tree_ns_userns.recursive_in_userns")
def test_recursive_in_userns(scratch: Path) -> None:
    """A foreign caller's recursive copy holds every mount, each as the model predicts."""
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "a" / "deep", "deep.txt")
    tmpfs(top / "b", "b.txt")
    tmpfs(top / "b" / "c", "c.txt")
    expected = predict_copy(top, recursive=True, foreign=True)

    def foreign_copy() -> list[str]:
        return namespace_tree(copy(top, recursive=True)).lines()

    assert in_child(as_foreign(foreign_copy)) == expected.lines()


@pytest.mark.rule("C7")
@pytest.mark.upstream("open_tree_ns_unbindable.fails_on_unbindable")
@pytest.mark.parametrize("recursive", [False, True], ids=["single", "recursive"])
def test_fails_on_unbindable(caller: Caller, recursive: bool, scratch: Path) -> None:
    """An unbindable mount is never the top of a copy: EINVAL, and the mounts stay as they were."""
    top = propagation(tmpfs(scratch / "top"), MS_UNBINDABLE)
    before = mount_table()
    caller.act()

    fails(errno.EINVAL, copy, top, recursive=recursive)

    assert mount_table() == before


@pytest.mark.rule("C7")
@pytest.mark.upstream("open_tree_ns_unbindable.recursive_skips_on_unbindable")
def test_recursive_skips_on_unbindable(scratch: Path) -> None:
    """The owner's recursive copy leaves out an unbindable child and all below it, nothing else."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "before", "before.txt")
    tmpfs(top / "unbindable", "hidden.txt")
    tmpfs(top / "unbindable" / "below")
    tmpfs(top / "zafter", "zafter.txt")
    propagation(top / "unbindable", MS_UNBINDABLE)
    expected = predict_copy(top, recursive=True)

    fd = copy(top, recursive=True)

    copied = namespace_tree(fd)
    assert copied.mount_points() == ["/", "/before", "/zafter"]
    assert copied.lines() == expected.lines()


@fixes.KEEP_COVERED
@pytest.mark.rule("C7", "K6")
@pytest.mark.needs("user namespace")
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(
            MS_PRIVATE,
            id="private_cover",
            marks=pytest.mark.upstream("open_tree_ns_covered.private_cover.foreign_user_namespace"),
        ),
        pytest.param(
            MS_UNBINDABLE,
            id="unbindable_cover",
            marks=pytest.mark.upstream(
                "open_tree_ns_covered.unbindable_cover.foreign_user_namespace"
            ),
        ),
    ],
)
class TestCovered:
    """What a mount covers stays covered for a caller that does not own the mount namespace."""

    @staticmethod
    def tree(scratch: Path, kind: int) -> Path:
        """Make a tmpfs with a file that a second tmpfs covers."""
        top = tmpfs(scratch / "top", "covered/under.txt")
        propagation(tmpfs(top / "covered", "cover.txt"), kind)
        return top

    def test_foreign_single_copy_is_refused(self, kind: int, scratch: Path) -> None:
        """A copy without AT_RECURSIVE would uncover the file: EINVAL."""
        top = self.tree(scratch, kind)

        assert in_child(as_foreign(lambda: outcome(copy, top))) == "EINVAL"

    def test_foreign_recursive_copy_keeps_the_cover(self, kind: int, scratch: Path) -> None:
        """The recursive copy holds the covering mount, and shows its content, not what is under."""
        top = self.tree(scratch, kind)
        expected = predict_copy(top, recursive=True, foreign=True)

        def foreign_copy() -> tuple[list[str], list[str]]:
            fd = copy(top, recursive=True)
            lines = namespace_tree(fd).lines()
            enter(fd)
            return lines, [path.name for path in Path("/covered").iterdir()]

        lines, names = in_child(as_foreign(foreign_copy))
        assert lines == expected.lines()
        assert names == ["cover.txt"]

    def test_owner_single_copy_is_allowed(self, kind: int, scratch: Path) -> None:
        """The owner may uncover what is its own: the copy holds the one mount."""
        top = self.tree(scratch, kind)
        expected = predict_copy(top, recursive=False)

        fd = copy(top)

        assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("C1")
def test_single_copy_is_one_mount(scratch: Path) -> None:
    """Without AT_RECURSIVE the owner gets the one mount the path is on, and with it what the
    mounts on it covered."""
    top = tmpfs(scratch / "top", "top.txt", "a/under.txt")
    tmpfs(top / "a", "a.txt")
    tmpfs(top / "a" / "inner")
    tmpfs(top / "b")
    expected = predict_copy(top, recursive=False)

    fd = copy(top)

    assert namespace_tree(fd).lines() == expected.lines()
    assert mnt_get_info(fd).nr_mounts == 1
    enter(fd)
    assert readable("/") == {"top.txt": "top.txt", "a/under.txt": "under.txt"}


@pytest.mark.rule("C2", "C3")
def test_recursion_is_by_directory(caller: Caller, scratch: Path) -> None:
    """With AT_RECURSIVE the copy holds what is mounted at or below the directory, at any depth, and
    nothing beside it: not on its parent, nor where a name only begins like its name."""
    top = tmpfs(scratch / "top")
    for name in ("dir/a", "dir/a/b", "dir/sub/c", "directory", "di", "other", "other/dir"):
        tmpfs(top / name, "file.txt")
    tmpfs(scratch / "beside")
    expected = predict_copy(top / "dir", recursive=True, foreign=caller.foreign)
    caller.act()

    fd = copy(top / "dir", recursive=True)

    copied = namespace_tree(fd)
    assert copied.mount_points() == ["/", "/a", "/a/b", "/sub/c"]
    assert copied.mnt_root == "/dir"
    assert copied.lines() == expected.lines()


@pytest.mark.rule("C3")
def test_no_way_up_from_the_top(caller: Caller, scratch: Path) -> None:
    """The directory is the root of the copy; ".." leads nowhere from there, whatever lies above
    it in the file system."""
    top = tmpfs(scratch / "top", "above.txt", "one/above.txt", "one/two/inside.txt")
    directory = ns_inode(str(top / "one/two"))
    caller.act()

    enter(copy(top / "one/two"))

    places = ["/", ".", "/..", "..", "/../..", "../../.."]
    assert {place: ns_inode(place) for place in places} == dict.fromkeys(places, directory)
    os.chdir("..")
    assert (os.getcwd(), os.listdir(".")) == ("/", ["inside.txt"])


@pytest.mark.rule("C4")
def test_copy_shares_files_and_not_mounts(scratch: Path) -> None:
    """The copy shows the same files, so that writes appear on the other side, under mount ids of
    its own; what is then mounted or unmounted on one side stays there."""
    top = tmpfs(scratch / "top", "file")
    tmpfs(top / "a", "a.txt")
    tmpfs(top / "b", "b.txt")
    (top / "empty").mkdir()
    before = mount_table()
    here = current_mnt_ns()

    fd = copy(top, recursive=True)

    copied = mount_table(ns_fd=fd)
    assert {m.mnt_id for m in copied} & {m.mnt_id for m in before} == set()
    assert max(m.mnt_id for m in before) < min(m.mnt_id for m in copied)
    enter(fd)
    write(Path("/file"), "from inside")
    umount2("/a", MNT_DETACH)
    mount("tmpfs", "/empty", "tmpfs")
    enter(here)
    assert (top / "file").read_text() == "from inside"
    assert mount_table() == before
    write(top / "file", "from outside")
    umount2(top / "b", MNT_DETACH)
    bind(top / "a", top / "again")
    assert mount_points(fd) == ["/", "/b", "/empty"]
    enter(fd)
    assert Path("/file").read_text() == "from outside"


@pytest.mark.rule("C7")
@pytest.mark.needs("user namespace")
@fixes.KEEP_COVERED
@fixes.KEEP_UNBINDABLE
def test_foreign_copy_of_an_unbindable_child_stays_unbindable(scratch: Path) -> None:
    """A foreign caller's copy holds an unbindable child and all below it, unbindable as it was:
    inside it cannot be bound, nor be the source of another namespace."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "unbindable", "u.txt")
    tmpfs(top / "unbindable" / "below", "b.txt")
    propagation(top / "unbindable", MS_UNBINDABLE)
    (top / "place").mkdir()
    expected = predict_copy(top, recursive=True, foreign=True)

    def foreign_copy() -> tuple[list[str], dict[str, str], list[Outcome]]:
        fd = copy(top, recursive=True)
        lines = namespace_tree(fd).lines()
        enter(fd)
        calls = [
            outcome(mount, "/unbindable", "/place", None, MS_BIND),
            outcome(copy, "/unbindable"),
            outcome(copy, "/unbindable", recursive=True),
            outcome(copy, "/unbindable/below"),
        ]
        return lines, readable("/"), calls

    lines, files, calls = in_child(as_foreign(foreign_copy))
    assert lines == expected.lines()
    assert files == {"unbindable/u.txt": "u.txt", "unbindable/below/b.txt": "b.txt"}
    assert calls == ["EINVAL", "EINVAL", "EINVAL", "success"]


@pytest.mark.needs("user namespace")
@pytest.mark.rule("BK1", "C7")
@fixes.KEEP_UNBINDABLE
@pytest.mark.upstream("mntns_unbindable.refuses_bind")
@pytest.mark.upstream("mntns_unbindable.refuses_bind_after_clone")
@pytest.mark.upstream("mntns_unbindable.refuses_rbind_after_clone")
@pytest.mark.upstream("mntns_unbindable.refuses_open_tree_after_clone")
@pytest.mark.upstream("mntns_unbindable.mountinfo_after_clone")
def test_unbindable_stays_unbindable(scratch: Path) -> None:
    """An unbindable child of a foreign copy is unbindable there too: it says so, and no call copies
    it, single or recursive."""
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "child"), MS_UNBINDABLE)
    (top / "place").mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    before = mount_table()

    found = {
        "bind": outcome(mount, "/child", "/place", None, MS_BIND),
        "rbind": outcome(mount, "/child", "/place", None, MS_BIND | MS_REC),
        "clone": outcome(clone, "/child"),
        "recursive clone": outcome(clone, "/child", recursive=True),
        "namespace": outcome(copy, "/child"),
        "recursive namespace": outcome(copy, "/child", recursive=True),
    }

    assert statmount(mnt_id_of("/child")).mnt_propagation == MS_UNBINDABLE
    assert found == dict.fromkeys(found, "EINVAL")
    assert mount_table() == before
