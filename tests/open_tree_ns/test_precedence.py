# SPDX-License-Identifier: GPL-2.0-only
"""Of several reasons to refuse a call, the one that is checked first gives the errno."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import NAMESPACE
from tests.utils.expect import SUCCESS, Outcome, outcome
from tests.utils.mounts.limits import allow_mnt_namespaces, descriptor_table_full, open_limit
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, effective
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    MS_UNBINDABLE,
    OPEN_TREE_CLONE,
)
from tests.utils.uapi.syscalls import PathLike, open_tree, setns

pytestmark = pytest.mark.needs("user namespace")  # its limit of mount namespaces is the case's own

#: Nothing else, so that CAP_DAC_OVERRIDE does not open closed directories.
PRIVILEGED = 1 << CAP_SYS_ADMIN
PLENTY = 1000

#: The rule: reasons to refuse, the first checked first, and the errno of each.
ORDER = {
    "full descriptor table": "EMFILE",
    "unknown flag": "EINVAL",
    "no CAP_SYS_ADMIN": "EPERM",
    "NULL path": "EFAULT",
    "closed dirfd": "EBADF",
    "no directory": "ENOTDIR",
    "limit of namespaces": "ENOSPC",
    "source not to be copied": "EINVAL",
}


def expected(faults: Iterable[str]) -> str:
    """State the rule: the call ends in the errno of the first of its faults in the order."""
    return next((ORDER[fault] for fault in ORDER if fault in faults), SUCCESS)


def end_of(dirfd: int, path: PathLike, flags: int = NAMESPACE) -> Outcome:
    """Make the call, close what it returned, and return how it ended."""
    end = outcome(open_tree, dirfd, path, flags)
    if isinstance(end.result, int):
        os.close(end.result)
    return end


def end_with(faults: frozenset[str], good: int, bad: int) -> Outcome:
    """Make a call with these faults (but for the limit, which is set outside).

    :param good: a directory that can be copied; below it lies a regular file, "file".
    :param bad: a directory that cannot be copied; the same.
    """
    dirfd = bad if "source not to be copied" in faults else good
    with contextlib.ExitStack() as stack:
        capable = 0 if "no CAP_SYS_ADMIN" in faults else PRIVILEGED
        stack.enter_context(effective(capable))
        if "full descriptor table" in faults:
            stack.enter_context(descriptor_table_full())
        return end_of(
            1 << 20 if "closed dirfd" in faults else dirfd,
            None if "NULL path" in faults else "file" if "no directory" in faults else ".",
            NAMESPACE | (1 << 30 if "unknown flag" in faults else 0),
        )


def become(caller: Caller) -> None:
    """Enter a new user namespace, with a mount namespace of its own for an owner."""
    enter_new_userns()
    if not caller.foreign:
        enter_new_mount_ns()


@pytest.mark.rule("O1")
@fixes.DIRECTORIES_ONLY
@pytest.mark.needs("nested user namespace", "sysctl")
def test_every_combination_of_faults(caller: Caller, scratch: Path) -> None:
    """Of any of eight faults at once, all 256 combinations, the first in the order wins."""
    become(Caller.OWNER)
    good = tmpfs(scratch / "good", "file")
    bad = propagation(tmpfs(scratch / "bad", "file"), MS_UNBINDABLE)
    if caller.foreign:
        become(caller)
    goodfd, badfd = os.open(good, os.O_PATH), os.open(bad, os.O_PATH)
    limit = "limit of namespaces"

    found, rule = {}, {}
    for limited in (False, True):
        allow_mnt_namespaces(0 if limited else PLENTY)
        for count in range(len(ORDER)):
            for chosen in itertools.combinations([f for f in ORDER if f != limit], count):
                faults = frozenset(chosen) | (frozenset([limit]) if limited else frozenset())
                names = " + ".join(fault for fault in ORDER if fault in faults)
                found[names] = end_with(faults, goodfd, badfd)
                rule[names] = expected(faults)

    assert found == rule


@pytest.mark.rule("O1")
@fixes.DIRECTORIES_ONLY
@pytest.mark.needs("nested user namespace", "sysctl")
def test_kinds_of_bad_paths(caller: Caller, scratch: Path) -> None:
    """Every fault of the path comes after descriptor table, flags and privilege, and before the
    limit of namespaces; the string itself is fetched before the descriptor is looked at."""
    become(Caller.OWNER)
    top = tmpfs(scratch / "top", "file", "closed/inner/file")
    (top / "loop").symlink_to("loop")
    (top / "closed").chmod(0)
    if caller.foreign:
        become(caller)
    dirfd, closed = os.open(top, os.O_PATH), 1 << 20
    paths: dict[str, tuple[int, PathLike, str]] = {
        "bad address": (dirfd, 1, "EFAULT"),
        "bad address, closed dirfd": (closed, 1, "EFAULT"),
        "empty": (dirfd, "", "ENOENT"),
        "empty, closed dirfd": (closed, "", "ENOENT"),
        "too long": (dirfd, "./" * 2048, "ENAMETOOLONG"),
        "too long, closed dirfd": (closed, "./" * 2048, "ENAMETOOLONG"),
        "closed dirfd": (closed, "missing", "EBADF"),
        "component too long": (dirfd, "x" * 256, "ENAMETOOLONG"),
        "missing": (dirfd, "missing", "ENOENT"),
        "below a file": (dirfd, "file/x", "ENOTDIR"),
        "file": (dirfd, "file", "ENOTDIR"),
        "loop of links": (dirfd, "loop", "ELOOP"),
        "below a closed directory": (dirfd, "closed/inner", "EACCES"),
    }
    unknown = NAMESPACE | 1 << 30
    both = NAMESPACE | OPEN_TREE_CLONE
    allow_mnt_namespaces(0)

    found = {}
    for name, (fd, path, _) in paths.items():
        with effective(PRIVILEGED):
            found[name, "limit"] = end_of(fd, path)
            found[name, "flag"] = end_of(fd, path, unknown)
            found[name, "pair of flags"] = end_of(fd, path, both)
            with descriptor_table_full():
                found[name, "table"] = end_of(fd, path)
        with effective(0):
            found[name, "privilege"] = end_of(fd, path)

    rule = {}
    for name, (_, _, number) in paths.items():
        rule[name, "limit"] = number
        rule[name, "flag"] = rule[name, "pair of flags"] = "EINVAL"
        rule[name, "table"] = "EMFILE"
        rule[name, "privilege"] = "EPERM"
    assert found == rule


@pytest.mark.rule("O1", "K6")
@fixes.KEEP_COVERED
@pytest.mark.needs("nested user namespace", "sysctl")
def test_what_would_be_uncovered_comes_after_the_limit(scratch: Path) -> None:
    """A foreign caller's copy that would leave out a child (EINVAL) loses to the limit of
    namespaces (ENOSPC)."""
    become(Caller.OWNER)
    top = tmpfs(scratch / "top")
    tmpfs(top / "child")
    become(Caller.FOREIGN)
    assert end_of(AT_FDCWD, top) == "EINVAL"
    allow_mnt_namespaces(0)
    assert end_of(AT_FDCWD, top) == "ENOSPC"


@pytest.mark.rule("O1", "K7")
@fixes.KEEP_UNBINDABLE
@pytest.mark.needs("nested user namespace", "sysctl")
def test_child_that_cannot_be_left_out_comes_last(scratch: Path) -> None:
    """A locked unbindable child below (EPERM) loses to an unbindable source (EINVAL), and both to
    the limit of namespaces (ENOSPC)."""
    become(Caller.OWNER)
    top = tmpfs(scratch / "top")
    propagation(tmpfs(top / "child"), MS_UNBINDABLE)
    become(Caller.FOREIGN)
    limit = open_limit()
    setns(open_tree(AT_FDCWD, top, NAMESPACE | AT_RECURSIVE), CLONE_NEWNS)

    def ask() -> tuple[Outcome, Outcome]:
        allow_mnt_namespaces(PLENTY, limit)
        plenty = end_of(AT_FDCWD, "/", NAMESPACE | AT_RECURSIVE)
        allow_mnt_namespaces(0, limit)
        return plenty, end_of(AT_FDCWD, "/", NAMESPACE | AT_RECURSIVE)

    child = ask()
    propagation(Path("/"), MS_UNBINDABLE)
    child_and_source = ask()

    assert child == ("EPERM", "ENOSPC")
    assert child_and_source == ("EINVAL", "ENOSPC")
