# SPDX-License-Identifier: GPL-2.0-only
"""Programs: a few steps that make a tree of mounts, and one call that copies it.

A program is plain data. It prints as the expression that makes it, so that one found by chance
becomes an ordinary case by being pasted into a list. Any sequence of steps is a program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from tests.utils.expect import errno_name
from tests.utils.model.prediction import (
    is_mnt_ns_file,
    namespace_tree,
    predict,
    predict_refusal,
)
from tests.utils.mounts.trees import readable
from tests.utils.search.steps import Tree
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign, enter_new_userns
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MNT_DETACH,
    MS_UNBINDABLE,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
)
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table
from tests.utils.uapi.syscalls import (
    attach,
    open_tree,
    setns,
    umount2,
    unshare,
)

#: Who makes the call. "nested" owns a mount namespace in which all that the steps made is locked;
#: "nested foreign" is one more user namespace below it.
CALLERS = ("owner", "foreign", "nested", "nested foreign")
#: What the call is given: a path, a directory that was open before the steps (so that they may
#: have covered or unmounted it), or a detached tree.
SOURCES = ("path", "open", "detached")


@dataclass(frozen=True)
class Program:
    """*steps*, by the owner; *late* ones, by the caller; and the call.

    A step is a verb and its paths, relative to the tree: ``"bind a c"``. A detached tree is made
    before the caller becomes who it is, and has nothing to do with later steps: there are none.
    """

    steps: tuple[str, ...]
    caller: str = "owner"
    late: tuple[str, ...] = ()
    source: str = "path"
    where: str = "."
    recursive: bool = True


@dataclass
class _Call:
    """The call of a program: what it is given, and what must come of it."""

    dirfd: int
    path: str
    flags: int
    table: list[Mount]
    mnt_id: int
    directory: str
    recursive: bool
    foreign: bool
    locked: Collection[int]

    def predicted(self) -> list[str]:
        """Return the errno by name, or the lines of the copy's tree."""
        arguments = (self.table, self.mnt_id, self.directory)
        refusal = predict_refusal(
            *arguments, recursive=self.recursive, foreign=self.foreign, locked=self.locked
        )
        if refusal is not None:
            return [refusal]
        return predict(*arguments, recursive=self.recursive, foreign=self.foreign).lines()

    def made(self) -> tuple[int, list[str]]:
        """Return the new namespace, or -1; and what came of the call, as :meth:`predicted` says
        it."""
        try:
            fd = open_tree(self.dirfd, self.path, self.flags)
        except OSError as error:
            return -1, [errno_name(error)]
        return fd, namespace_tree(fd).lines()


def _become(caller: str) -> Collection[int]:
    """Become *caller*; the ids of the mounts that are locked from then on."""
    locked: Collection[int] = ()
    if caller.startswith("nested"):
        enter_new_userns()
        unshare(CLONE_NEWNS)
        locked = [mount.mnt_id for mount in mount_table()]
    if caller.endswith("foreign"):
        become_foreign()
    return locked


def _contents(*tops: str | Path) -> set[str]:
    return {text for top in tops for text in readable(top).values()}


def _shown_by_unshare(directory: int, top: Path) -> set[str]:
    """What unshare(2) and open_tree(OPEN_TREE_CLONE) show to whoever has *directory* open: what is
    mounted on it, even where another mount hides both. The flag takes nothing away from that.

    :param top: where a mount can be put.
    """

    def look() -> set[str]:
        os.fchdir(directory)
        enter_new_userns()
        unshare(CLONE_NEWNS)
        attach(open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | AT_RECURSIVE), top)
        return _contents(top)

    try:
        return in_child(look)
    except OSError:
        return set()


def _unmount_all() -> None:
    """Unmount what can be unmounted: a lock that is missing shows in what comes to light."""
    for each in reversed(mount_table()):
        if each.mnt_point not in (None, "/"):
            with contextlib.suppress(OSError):
                umount2(str(each.mnt_point), MNT_DETACH)


def mismatch(program: Program, scratch: Path) -> str:
    """Return what the kernel makes of *program* otherwise than predicted; empty when nothing.

    For a child that ends afterwards: mounts, credentials and namespaces are not put back.
    """
    if program.caller.startswith("nested") and any("rbind" in step for step in program.late):
        return ""  # a copy of a locked mount is locked, and the table does not tell which is one
    tree = Tree(scratch)
    opened = os.open(scratch / program.where, os.O_PATH | os.O_DIRECTORY)
    for step in program.steps:
        tree.step(step)
    if program.source == "detached":
        try:
            opened = open_tree(AT_FDCWD, scratch / program.where, OPEN_TREE_CLONE | AT_RECURSIVE)
        except OSError:
            return ""
    locked = _become(program.caller)
    seen = _contents(scratch)
    for step in program.late if program.source != "detached" else ():
        tree.step(step)
    call = _call(program, scratch, opened, locked)
    if call is None:
        return ""
    seen |= _contents(scratch, f"/proc/self/fd/{opened}")
    if program.source == "open" and program.recursive:
        seen |= _shown_by_unshare(opened, scratch)
    before, predicted = mount_table(), call.predicted()

    fd, made = call.made()

    if made != predicted:
        return _compared("the call", predicted, made)
    if mount_table() != before:
        return _compared("the caller's mounts", before, mount_table())
    # Known, see docs/findings.md: what lies under a mount namespace's file is not kept from a
    # foreign caller (rule C10), nor what is on an unbindable mount on a directory that is open.
    known = any(map(is_mnt_ns_file, before)) or (
        program.source == "open" and any(MS_UNBINDABLE in each.mnt_propagation for each in before)
    )
    if fd >= 0 and program.caller != "owner" and not known:
        setns(fd, CLONE_NEWNS)
        _unmount_all()
        if more := _contents("/") - seen:
            return f"the caller reads inside what it could not read outside: {sorted(more)}"
    return ""


def _compared(what: str, predicted: Collection[object], made: Collection[object]) -> str:
    lines = [f"{what}: predicted", *map(str, predicted), "the kernel made", *map(str, made)]
    return "\n    ".join(lines)


def _call(program: Program, top: Path, opened: int, locked: Collection[int]) -> _Call | None:
    """The call, with the table as it is now; None when the path leads nowhere."""
    flags = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC
    flags |= AT_RECURSIVE if program.recursive else 0
    table, place = mount_table(), top / program.where
    foreign = program.caller.endswith("foreign")
    by_fd = (opened, "", flags | AT_EMPTY_PATH)
    if program.source == "open":
        directory = os.readlink(f"/proc/self/fd/{opened}")
        mnt_id, given = mnt_id_of(opened), by_fd
    else:
        try:
            mnt_id = mnt_id_of(place)
        except OSError:
            return None
        directory, given = os.path.realpath(place), (AT_FDCWD, str(place), flags)
        if not place.is_dir():
            return None
    if program.source == "detached":
        given = by_fd
        # What was unbindable has not become part of the detached tree. One that was made in
        # another mount namespace is no source.
        bindable = [m for m in table if MS_UNBINDABLE not in m.mnt_propagation]
        table = [] if program.caller.startswith("nested") else bindable
    return _Call(*given, table, mnt_id, directory, program.recursive, foreign, locked)
