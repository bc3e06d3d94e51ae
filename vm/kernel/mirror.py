# SPDX-License-Identifier: GPL-2.0-only
"""A second build of a source that was built in place: a folder of links to its files.

make refuses to build elsewhere from a source that holds a build (O= wants it clean). In a folder
of links it builds in place, as it does in the source, and sees by their times what has changed.
Which files are the source's own, and not made by make, is told by the kernel's own .gitignore.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from vm.errors import Problem
from vm.process import output

#: The names that were linked, in the folder itself.
_LIST = ".open_tree_ns-links"
#: Distributions' packages ignore all at the top, which they keep elsewhere.
_AT_TOP = ("!/*/", "!/Kbuild", "!/Kconfig", "!/Makefile", "!/COPYING")


def names(source: Path) -> set[str]:
    """Return the files of the kernel's *source* that make has not made, relative to it.

    :raises Problem: there is no git to tell.
    """
    if shutil.which("git") is None:
        raise Problem(
            "git is missing, which tells the kernel's source from what make has made in it\n"
            "hint: install git"
        )
    with tempfile.TemporaryDirectory(prefix="vm-") as empty:
        excluded = [word for pattern in _AT_TOP for word in ("-x", pattern)]
        git = ["git", "--git-dir", empty, "--work-tree", str(source)]
        list_them = ["ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
        output(["git", "init", "--quiet", "--bare", empty])
        done = output([*git, *list_them, *excluded], folder=source)
    found = {name for name in done.stdout.split("\0") if name and not name.endswith("/")}
    if done.returncode or "Makefile" not in found:
        raise Problem(f"{source}: git does not list its files: {done.stderr.strip()}")
    return found


def refresh(source: Path, folder: Path) -> None:
    """Make *folder*, which is there, hold a link to each file of *source*, and none to another."""
    listed = folder / _LIST
    before = set(listed.read_text().split("\0")) if listed.exists() else set[str]()
    now = names(source)
    for name in before - now:
        with suppress(FileNotFoundError):
            (folder / name).unlink()
    for parent in {str(Path(name).parent) for name in now - before}:
        (folder / parent).mkdir(parents=True, exist_ok=True)
    for name in now - before:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(source / name)
    listed.write_text("\0".join(sorted(now)))
