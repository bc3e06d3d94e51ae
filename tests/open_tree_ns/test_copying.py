# SPDX-License-Identifier: GPL-2.0-only
"""Which mounts are copied: all, none, or all but those the caller's position leaves out."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.open_tree_ns.conftest import Caller
from tests.utils.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MS_PRIVATE,
    MS_UNBINDABLE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.expect import refused
from tests.utils.model import namespace_tree, predict_copy
from tests.utils.mounts import mount_table
from tests.utils.process import in_child
from tests.utils.syscalls import open_tree, setns
from tests.utils.trees import propagation, tmpfs
from tests.utils.userns import as_foreign

FLAGS = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
COVERED_FIX = pytest.mark.fixed_by(
    "0febe278ec45", "7.2.11", "namespace: keep covered mounts covered in OPEN_TREE_NAMESPACE"
)


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
        return namespace_tree(open_tree(AT_FDCWD, top, FLAGS | AT_RECURSIVE)).lines()

    assert in_child(as_foreign(foreign_copy)) == expected.lines()


@pytest.mark.upstream("open_tree_ns_unbindable.fails_on_unbindable")
@pytest.mark.parametrize("recursive", [False, True], ids=["single", "recursive"])
def test_fails_on_unbindable(caller: Caller, recursive: bool, scratch: Path) -> None:
    """An unbindable mount is never the top of a copy: EINVAL, and the mounts stay as they were."""
    top = propagation(tmpfs(scratch / "top"), MS_UNBINDABLE)
    before = mount_table()
    caller.act()

    with refused(errno.EINVAL):
        open_tree(AT_FDCWD, top, FLAGS | (AT_RECURSIVE if recursive else 0))

    assert mount_table() == before


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

    fd = open_tree(AT_FDCWD, top, FLAGS | AT_RECURSIVE)

    copy = namespace_tree(fd)
    assert copy.mount_points() == ["/", "/before", "/zafter"]
    assert copy.lines() == expected.lines()


@COVERED_FIX
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
        """A tmpfs with a file that a second tmpfs covers."""
        top = tmpfs(scratch / "top", "covered/under.txt")
        propagation(tmpfs(top / "covered", "cover.txt"), kind)
        return top

    def test_foreign_single_copy_is_refused(self, kind: int, scratch: Path) -> None:
        """A copy without AT_RECURSIVE would uncover the file: EINVAL."""
        top = self.tree(scratch, kind)

        def foreign_copy() -> None:
            with refused(errno.EINVAL):
                open_tree(AT_FDCWD, top, FLAGS)

        in_child(as_foreign(foreign_copy))

    def test_foreign_recursive_copy_keeps_the_cover(self, kind: int, scratch: Path) -> None:
        """The recursive copy holds the covering mount, and shows its content, not what is under."""
        top = self.tree(scratch, kind)
        expected = predict_copy(top, recursive=True, foreign=True)

        def foreign_copy() -> tuple[list[str], list[str]]:
            fd = open_tree(AT_FDCWD, top, FLAGS | AT_RECURSIVE)
            lines = namespace_tree(fd).lines()
            setns(fd, CLONE_NEWNS)
            return lines, [path.name for path in Path("/covered").iterdir()]

        lines, names = in_child(as_foreign(foreign_copy))
        assert lines == expected.lines()
        assert names == ["cover.txt"]

    def test_owner_single_copy_is_allowed(self, kind: int, scratch: Path) -> None:
        """The owner may uncover what is its own: the copy holds the one mount."""
        top = self.tree(scratch, kind)
        expected = predict_copy(top, recursive=False)

        fd = open_tree(AT_FDCWD, top, FLAGS)

        assert namespace_tree(fd).lines() == expected.lines()
