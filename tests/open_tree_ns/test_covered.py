# SPDX-License-Identifier: GPL-2.0-only
"""What mounts cover stays covered: a foreign caller reads nothing inside that it could not read
before, through the same directory.

Every file of these trees says in its name whether a mount covers it. The oracle is one: what can be
read inside the new namespace is what could be read through the path (or descriptor) that was
copied.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import bind, propagation, readable, tmpfs, write
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import (
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)

pytestmark = [pytest.mark.needs("user namespace"), fixes.KEEP_COVERED]


def covered_tree(scratch: Path) -> Path:
    """Make a tmpfs with secrets under mounts of every kind: on directories and on files, of every
    propagation type, in stacks, and below mounts that are on the tmpfs themselves."""
    top = tmpfs(scratch / "top", "seen", "leaf/seen", "leaf/sub/seen")
    for name, kind in (
        ("private", MS_PRIVATE),
        ("shared", MS_SHARED),
        ("unbindable", MS_UNBINDABLE),
    ):
        write(top / name / "dir" / "secret")
        propagation(tmpfs(top / name / "dir", "seen"), kind)
    bind(top / "shared/dir", top / "slave")
    propagation(top / "slave", MS_SLAVE)
    # on a file: its content is what is covered
    write(top / "files/file", "secret")
    bind(top / "seen", top / "files/file")
    # two levels down, and there on a file too
    tmpfs(top / "level", "one/secret", "seen")
    tmpfs(top / "level/one", "two/secret", "seen")
    tmpfs(top / "level/one/two", "seen")
    write(top / "level/one/two/file", "secret")
    bind(top / "seen", top / "level/one/two/file")
    # a stack of three
    write(top / "stack/dir/secret")
    for _ in range(3):
        tmpfs(top / "stack/dir", "secret")
    tmpfs(top / "stack/dir", "seen")
    return top


def check_no_secret(files: dict[str, str]) -> None:
    """Check that the tree is sound: no secret is among what its path shows."""
    assert files
    assert [path for path, text in files.items() if "secret" in (path.split("/")[-1], text)] == []


@pytest.mark.rule("C7", "K6")
@fixes.KEEP_UNBINDABLE
def test_recursive_copy_shows_what_the_path_shows(scratch: Path) -> None:
    """Every cover comes along: the files to be read inside are those to be read before."""
    top = covered_tree(scratch)
    files = readable(top)
    check_no_secret(files)
    expected = predict_copy(top, recursive=True, foreign=True)
    become_foreign()

    fd = copy(top, recursive=True)

    assert namespace_tree(fd).lines() == expected.lines()
    enter(fd)
    assert readable("/") == files


#: Directories of the tree, and whether something is mounted below each on its own mount.
DIRECTORIES = {
    ".": True,
    "leaf": False,
    "leaf/sub": False,
    "private": True,
    "private/dir": False,
    "shared": True,
    "shared/dir": False,
    "slave": False,
    "unbindable": True,
    "files": True,
    "level": True,
    "level/one": True,
    "level/one/two": True,
    "stack": True,
    "stack/dir": False,
}


@pytest.mark.rule("K6")
def test_single_copy_uncovers_nothing(scratch: Path) -> None:
    """Without AT_RECURSIVE each directory with something mounted below it is EINVAL, however deep
    and whatever the kind of mount; each other shows inside exactly what its path shows."""
    top = covered_tree(scratch)
    before = {name: readable(top / name) for name in DIRECTORIES}
    become_foreign()

    ends = {name: outcome(copy, top / name) for name in DIRECTORIES}
    inside = {}
    for name, end in ends.items():
        if isinstance(end.result, int):
            enter(end.result)
            inside[name] = readable("/")

    assert ends == {name: "EINVAL" if below else "success" for name, below in DIRECTORIES.items()}
    assert inside == {name: before[name] for name, below in DIRECTORIES.items() if not below}


@pytest.mark.rule("K6", "C6")
def test_covers_over_an_open_directory(scratch: Path) -> None:
    """Through a descriptor below a cover: a copy that would leave the cover out is EINVAL; with
    AT_RECURSIVE the cover is on top; and where the cover lies elsewhere on the mount, the copy
    shows what the descriptor shows."""
    top = tmpfs(scratch / "top", "secret", "sub/seen", "sub/inner/seen")
    root = os.open(top, os.O_PATH | os.O_DIRECTORY)
    sub = os.open(top / "sub", os.O_PATH | os.O_DIRECTORY)
    tmpfs(top, "seen", "cover.txt")
    through_path = readable(top)
    through_fd = readable(f"/proc/self/fd/{sub}")
    expected = predict_copy(root, recursive=True, foreign=True)
    become_foreign()

    fails(errno.EINVAL, copy, "", dirfd=root)
    both = copy("", dirfd=root, recursive=True)
    beside = copy("", dirfd=sub)

    assert namespace_tree(both).lines() == expected.lines()
    enter(both)
    assert readable("/") == through_path == {"seen": "seen", "cover.txt": "cover.txt"}
    enter(beside)
    assert readable("/") == through_fd == {"seen": "seen", "inner/seen": "seen"}


@pytest.mark.rule("K6", "K1")
def test_copy_of_a_copy_uncovers_nothing(scratch: Path) -> None:
    """Inside a foreign copy its new owner is bound as well: what is locked cannot be left out by
    making one more copy, neither as the owner nor as a foreign caller once more."""
    top = covered_tree(scratch)
    files = readable(top)
    become_foreign()
    enter(copy(top / "level", recursive=True))
    files = {path[6:]: text for path, text in files.items() if path.startswith("level/")}
    assert readable("/") == files

    for path in ("/", "/one", "/one/two"):
        fails(errno.EINVAL, copy, path)
    fd = copy("/", recursive=True)
    leaf = copy("/one", recursive=True)

    enter(leaf)
    assert readable("/") == {p[4:]: text for p, text in files.items() if p.startswith("one/")}
    enter(fd)
    assert readable("/") == files
