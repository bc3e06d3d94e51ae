# SPDX-License-Identifier: GPL-2.0-only
"""Trees of mounts that cases of several modules start from."""

from __future__ import annotations

from pathlib import Path

from tests.open_tree_ns.calls import copy, enter
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.tasks.userns import become_foreign


def small_tree(scratch: Path) -> Path:
    """Make a mount with a file, a directory "dir" with a file, and a mount "child"."""
    top = tmpfs(scratch / "top", "top.txt", "dir/file.txt")
    tmpfs(top / "child", "child.txt")
    return top


def nested_tree(scratch: Path) -> Path:
    """Make mounts side by side and on each other, and empty directories.

    Mounts: "a", "a/inner", "b". Directories: "own", "elsewhere", "a/own".
    """
    top = tmpfs(scratch / "top", "top.txt")
    tmpfs(top / "a", "a.txt")
    tmpfs(top / "a" / "inner", "inner.txt")
    tmpfs(top / "b", "b.txt")
    for name in ("own", "elsewhere", "a/own"):
        (top / name).mkdir()
    return top


def tree_with_proc(scratch: Path) -> Path:
    """Make a tree with an empty "file" and /proc, so that descriptors can be mounted inside."""
    top = tmpfs(scratch / "top")
    bind(Path("/proc"), top / "proc", recursive=True)
    write(top / "file")
    return top


def enter_foreign_copy(top: Path) -> None:
    """Become the owner of a namespace whose mounts are all locked: a foreign caller's copy."""
    become_foreign()
    enter(copy(top, recursive=True))
