# SPDX-License-Identifier: GPL-2.0-only
"""That nothing is left of a call that was refused, or of a namespace that is gone.

The limit of namespaces is that of a user namespace of the case's own, set to just what the case may
use: a single leaked namespace then turns the next call into ENOSPC.
"""

from __future__ import annotations

import ctypes
import errno
import os
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import NAMESPACE, copy, enter
from tests.utils.expect import fails, outcome
from tests.utils.mounts.limits import (
    allow_mnt_namespaces,
    descriptor_table_full,
    enter_counted_userns,
    open_limit,
    room_for,
)
from tests.utils.mounts.settle import gone, let_go, within_limit
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget, effective
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_UNBINDABLE,
    OPEN_TREE_CLONE,
)
from tests.utils.uapi.nsfs import (
    current_mnt_ns,
    exists,
    ns_id,
)
from tests.utils.uapi.statmount import listmount, mount_table
from tests.utils.uapi.syscalls import (
    MountAttrStruct,
    open_tree,
    open_tree_attr,
    umount2,
    unshare,
)

#: Calls of each kind: far more than any count that could hide a leak.
MANY = 200
#: Calls of one kind take no longer: others that look at each namespace make them wait.
SECONDS = 1
pytestmark = pytest.mark.needs("user namespace")


#: One call that must be refused, and the errno.
Refusal = tuple[Callable[[], int], int]


def with_full_table(call: Callable[[], int]) -> int:
    """Make *call* with no room for another descriptor."""
    with descriptor_table_full():
        return call()


def without_privilege(call: Callable[[], int]) -> int:
    """Make *call* without CAP_SYS_ADMIN."""
    with effective(capget().permitted & ~(1 << CAP_SYS_ADMIN)):
        return call()


def refusals(top: Path, beside: int, limit_fd: int) -> dict[str, Refusal]:
    """Return a call for each reason to refuse any caller.

    :param beside: a directory of another mount namespace.
    :param limit_fd: see :func:`open_limit`.
    """
    good = partial(copy, top / "leaf")
    with_flags = partial(open_tree, AT_FDCWD, top / "leaf")

    def at_the_limit() -> int:
        allow_mnt_namespaces(0, limit_fd)
        return good()

    attr = MountAttrStruct(attr_set=MOUNT_ATTR_RDONLY)
    size = ctypes.sizeof(attr)
    return {
        "table": (partial(with_full_table, good), errno.EMFILE),
        "flag": (partial(with_flags, NAMESPACE | 1 << 30), errno.EINVAL),
        "both": (partial(with_flags, NAMESPACE | OPEN_TREE_CLONE), errno.EINVAL),
        "privilege": (partial(without_privilege, good), errno.EPERM),
        "NULL": (partial(copy, None), errno.EFAULT),
        "empty": (partial(open_tree, AT_FDCWD, "", NAMESPACE), errno.ENOENT),
        "missing": (partial(copy, top / "missing"), errno.ENOENT),
        "dirfd": (partial(copy, "x", dirfd=1 << 20), errno.EBADF),
        "below a file": (partial(copy, top / "file/x"), errno.ENOTDIR),
        "file": (partial(copy, top / "file"), errno.ENOTDIR),
        "unbindable": (partial(copy, top / "unbindable"), errno.EINVAL),
        "unbindable, all": (partial(copy, top / "unbindable", recursive=True), errno.EINVAL),
        "elsewhere": (partial(copy, "", dirfd=beside), errno.EINVAL),
        "elsewhere, all": (partial(copy, "", dirfd=beside, recursive=True), errno.EINVAL),
        "attribute": (
            partial(open_tree_attr, AT_FDCWD, top / "leaf", NAMESPACE, attr, size),
            errno.EINVAL,
        ),
        "limit": (at_the_limit, errno.ENOSPC),
    }


def detached_directory(path: Path) -> int:
    """Return a directory of a mount that was unmounted lazily."""
    fd = os.open(tmpfs(path), os.O_PATH)
    umount2(path, MNT_DETACH)
    return fd


def assert_no_leaks(refusals: dict[str, Refusal], leaf: Path, used: int, limit_fd: int) -> None:
    """Make each call many times, for a second at most, with room for exactly one namespace.

    Each must be refused with its errno, and the room still be there after each kind. The first that
    is not is the last of its kind.
    """
    before = mount_table(), sorted(os.listdir("/proc/self/fd"))
    for name, (call, number) in refusals.items():
        allow_mnt_namespaces(used + 1, limit_fd)
        ends: Counter[str] = Counter()
        # Others may hold what a call has made and undone.
        patient = call if number == errno.ENOSPC else partial(within_limit, call)
        until = time.monotonic() + SECONDS
        while ends.total() < MANY and (not ends or time.monotonic() < until):
            end = outcome(patient)
            ends[end] += 1
            if isinstance(end.result, int):
                os.close(end.result)
            if end != errno.errorcode[number]:
                break
        allow_mnt_namespaces(used + 1, limit_fd)
        found = {name: (dict(ends), room_for(leaf, 1))}
        assert found == {name: ({errno.errorcode[number]: ends.total()}, 1)}
    assert (mount_table(), sorted(os.listdir("/proc/self/fd"))) == before


def good_and_bad_sources(scratch: Path) -> Path:
    """Make a tree with a file, a mount "leaf" and one that is unbindable."""
    top = tmpfs(scratch / "top", "file")
    tmpfs(top / "leaf")
    propagation(tmpfs(top / "unbindable"), MS_UNBINDABLE)
    return top


@pytest.mark.rule("T4")
@fixes.DIRECTORIES_ONLY
@pytest.mark.needs("nested user namespace", "sysctl")
def test_refused_calls_leak_nothing(caller: Caller, scratch: Path) -> None:
    """Hundreds of calls, refused for each reason there is, leave no namespace, no charge, no
    mount and no descriptor behind."""
    used = enter_counted_userns()
    beside = os.open(scratch, os.O_PATH)
    held = current_mnt_ns()
    used += 1
    enter_new_mount_ns()
    assert exists(ns_id(held))
    top = good_and_bad_sources(scratch)
    detached = detached_directory(scratch / "detached")
    if caller.foreign:
        caller.act()
        used = 0
    limit_fd = open_limit()

    kinds = refusals(top, beside, limit_fd)
    if caller.foreign:
        # Changing attributes takes privilege over the mount namespace one is in.
        kinds["attribute"] = kinds["attribute"][0], errno.EPERM
    for name, recursive in (("unmounted", False), ("unmounted, all", True)):
        kinds[name] = partial(copy, "", dirfd=detached, recursive=recursive), errno.EINVAL
    assert_no_leaks(kinds, top / "leaf", used, limit_fd)


@pytest.mark.rule("T4", "K6")
@fixes.KEEP_COVERED
@pytest.mark.needs("nested user namespace", "sysctl")
def test_refused_uncovering_leaks_nothing(scratch: Path) -> None:
    """Neither do the calls refused to a foreign caller for what they would uncover."""
    enter_counted_userns()
    top = good_and_bad_sources(scratch)
    Caller.FOREIGN.act()
    limit_fd = open_limit()
    kinds: dict[str, Refusal] = {"child": (partial(copy, top), errno.EINVAL)}
    assert_no_leaks(kinds, top / "leaf", 0, limit_fd)


@pytest.mark.rule("T4", "K5", "K7")
@fixes.KEEP_UNBINDABLE
@pytest.mark.needs("nested user namespace", "sysctl")
def test_refused_locked_children_leak_nothing(scratch: Path) -> None:
    """Neither do the calls refused for a locked child that would be left out: EINVAL without
    AT_RECURSIVE, EPERM for an unbindable one with it."""
    enter_counted_userns()
    top = good_and_bad_sources(scratch)
    bind(Path("/proc"), top / "proc", recursive=True)
    Caller.FOREIGN.act()
    limit_fd = open_limit()
    enter(copy(top, recursive=True))
    kinds: dict[str, Refusal] = {
        "single": (partial(copy, "/"), errno.EINVAL),
        "all": (partial(copy, "/", recursive=True), errno.EPERM),
    }
    # The namespace it is in counts.
    assert_no_leaks(kinds, Path("/leaf"), 1, limit_fd)


@pytest.mark.rule("T1", "T4")
@pytest.mark.needs("nested user namespace", "sysctl")
@pytest.mark.upstream("stress_test.rapid_namespace_creation_destruction")
def test_short_lives_leak_nothing(caller: Caller, scratch: Path) -> None:
    """Hundreds of namespaces one after the other, some entered and left, need room for one."""
    used = enter_counted_userns()
    leaf = tmpfs(scratch / "leaf")
    if caller.foreign:
        caller.act()
        used = 0
    with NamespaceThread() as thread:
        used += 1
        allow_mnt_namespaces(used + 1)
        for count in range(MANY):
            fd = within_limit(partial(copy, leaf))
            if count % 2:
                thread.enter(fd)
                os.close(fd)
                thread.leave()
            else:
                os.close(fd)
        assert room_for(leaf, 1) == 1


@pytest.mark.rule("T1", "T4")
def test_inode_numbers_are_given_out_again(caller: Caller, scratch: Path) -> None:
    """Of namespaces one after the other, with a refused call before each, not each has an inode
    number that none had before."""
    leaf, detached = tmpfs(scratch / "leaf"), detached_directory(scratch / "detached")
    caller.act()
    numbers = []
    for _ in range(20):
        fails(errno.EINVAL, copy, "", dirfd=detached)
        fd = within_limit(partial(copy, leaf))
        numbers.append(os.fstat(fd).st_ino)
        let_go(fd)
    # Others may have taken one for a namespace of theirs.
    assert len(set(numbers)) < len(numbers), f"no number came twice: {numbers}"


@pytest.mark.rule("BL5")
@fixes.UNSHARED_FS_STRUCT
@fixes.ACTIVE_REFERENCES
@pytest.mark.needs("nested user namespace", "UTS namespace", "sysctl")
def test_unshare_that_fails_half_way(scratch: Path) -> None:
    """unshare(2) that makes a mount namespace and then fails, hundreds of times inside a new
    namespace, keeps nothing of what it made and loses nothing of where it was made."""
    top = tmpfs(scratch / "top")
    bind(Path("/proc"), top / "proc", recursive=True)
    enter_new_userns()
    Path("/proc/sys/user/max_uts_namespaces").write_text("0")
    allow_mnt_namespaces(2)
    fd = copy(top, recursive=True)
    number, ids = ns_id(fd), listmount(ns_fd=fd)
    enter(fd)

    for _ in range(200):
        for kinds in (CLONE_NEWNS | CLONE_NEWUTS, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS):
            fails(errno.ENOSPC, unshare, kinds)
    assert os.stat("/proc/self/ns/mnt").st_ino == os.fstat(fd).st_ino
    assert listmount() == ids

    os.close(fd)
    assert exists(number)
    unshare(CLONE_NEWNS)
    assert gone(number)
