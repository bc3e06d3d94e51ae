# SPDX-License-Identifier: GPL-2.0-only
"""How long a new namespace lives: exactly as long as something holds it, whatever that is."""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import fails
from tests.utils.mounts.limits import allow_mnt_namespaces
from tests.utils.mounts.references import FOR_ALL, FOR_OWNERS, Holds, Kind, neighbour
from tests.utils.mounts.settle import gone, settled
from tests.utils.mounts.trees import bind, tmpfs
from tests.utils.tasks.namespace_thread import NamespaceThread
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MS_BIND,
)
from tests.utils.uapi.fanotify import mount_watch
from tests.utils.uapi.nsfs import (
    NS_MNT_GET_NEXT,
    current_mnt_ns,
    exists,
    listns,
    ns_get_userns,
    ns_id,
)
from tests.utils.uapi.statmount import listmount, statmount
from tests.utils.uapi.syscalls import mount, umount2


def orders(kinds: tuple[Kind, ...]) -> Iterator[tuple[Kind, ...]]:
    """Yield each kind alone, every two in both orders, and all with each being the last."""
    yield from ((kind,) for kind in kinds)
    yield from itertools.permutations(kinds, 2)
    for count in range(len(kinds)):
        turned = kinds[count:] + kinds[:count]
        yield turned
        yield turned[::-1]


def check_lifetime(holds: Holds, leaf: Path, order: tuple[Kind, ...]) -> list[str]:
    """Make a namespace, hold it in all ways of *order*, close the handle, release one by one.

    Return what was wrong: gone while held, or there when all are released.
    """
    fd = copy(leaf)
    number = ns_id(fd)
    releases = [kind(holds, fd) for kind in order]
    os.close(fd)
    names = [kind.__name__ for kind in order]
    wrong = []
    for count, release in enumerate(releases):
        if not exists(number):
            wrong.append(f"gone, though held by {names[count:]}; before that by {names[:count]}")
        release()
    if not gone(number):
        wrong.append(f"still there after {names}")
    return wrong


@pytest.mark.rule("T1", "T2")
@pytest.mark.upstream("ns_active_ref_test.ns_bind_mount_keeps_in_tree")
@pytest.mark.upstream("ns_active_ref_test.ns_active_with_multiple_processes")
@pytest.mark.upstream("ns_active_ref_test.thread_ns_inactive_after_exit")
@pytest.mark.upstream("ns_active_ref_test.thread_ns_fd_keeps_active")
@pytest.mark.upstream("ns_active_ref_test.thread_subprocess_ns_inactive_after_all_exit")
def test_held_by_any_holder(caller: Caller, scratch: Path) -> None:
    """The namespace exists as long as one holder is left, of whatever kind and in whatever order
    they let go; with the last one it is gone."""
    leaf, targets = tmpfs(scratch / "leaf"), tmpfs(scratch / "targets")
    caller.act()
    kinds: tuple[Kind, ...] = FOR_ALL if caller.foreign else FOR_ALL + FOR_OWNERS

    with NamespaceThread() as thread:
        holds = Holds(thread, targets)
        found = (check_lifetime(holds, leaf, order) for order in orders(kinds))
        wrong: list[str] = next(filter(None, found), [])

    assert wrong == []


@pytest.mark.rule("T2")
@pytest.mark.needs("sight of all namespaces")
@pytest.mark.isolated(pid_namespace=False)
def test_held_by_neighbours(scratch: Path) -> None:
    """What NS_MNT_GET_NEXT and NS_MNT_GET_PREV return holds the namespace like its own handle."""
    leaf, targets = tmpfs(scratch / "leaf"), tmpfs(scratch / "targets")
    kinds: tuple[Kind, ...] = (
        Holds.next_neighbour,
        Holds.previous_neighbour,
        Holds.reopened,
        Holds.mountinfo,
    )

    with NamespaceThread() as thread:
        holds = Holds(thread, targets)
        found = (check_lifetime(holds, leaf, order) for order in orders(kinds))
        wrong: list[str] = next(filter(None, found), [])

    assert wrong == []


@pytest.mark.rule("T2", "R6")
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("listns_test.listns_only_active")
def test_held_but_not_listed(scratch: Path) -> None:
    """An open mountinfo holds the namespace, yet nobody could enter it by that: listns(2) does
    not list it, until NS_MNT_GET_NEXT has given out a handle again."""
    leaf, targets = tmpfs(scratch / "leaf"), tmpfs(scratch / "targets")
    with NamespaceThread() as thread:
        holds = Holds(thread, targets)
        fd = copy(leaf)
        number, ids = ns_id(fd), listmount(ns_fd=fd)
        close_mountinfo = holds.mountinfo(fd)
        listed = {"held by the handle too": number in listns()}

        os.close(fd)
        listed["held by mountinfo alone"] = settled(lambda: number in listns(), False)
        assert listmount(ns_id=number) == ids
        again = neighbour(number, NS_MNT_GET_NEXT, current_mnt_ns())
        listed["given out again"] = number in listns()
        os.close(again)
        listed["closed again"] = settled(lambda: number in listns(), False)
        close_mountinfo()

    assert listed == {
        "held by the handle too": True,
        "held by mountinfo alone": False,
        "given out again": True,
        "closed again": False,
    }
    assert gone(number), "the namespace is there after its mountinfo was closed"


@pytest.mark.rule("T1")
@pytest.mark.needs("nested user namespace", "sysctl")
def test_gone_with_the_last_descriptor(caller: Caller, scratch: Path) -> None:
    """When the last descriptor is closed the namespace is gone at once: by its id nothing is to
    be found, and what it counted for is free. Others who look at it may delay that, not always."""
    enter_new_userns()
    enter_new_mount_ns()
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    allow_mnt_namespaces(1 if caller.foreign else 2)

    at_once = 0
    for _ in range(20):
        fd = copy(leaf)
        number, (top,) = ns_id(fd), listmount(ns_fd=fd)
        assert listmount(ns_id=number) == [top]
        assert statmount(top, ns_id=number).mnt_ns_id == number
        fails(errno.ENOSPC, copy, leaf)

        os.close(fd)

        at_once += not exists(number)
        assert gone(number)
        fails(errno.ENOENT, listmount, ns_id=number)
        fails(errno.ENOENT, statmount, top, ns_id=number)
    assert at_once > 10


@pytest.mark.rule("T2")
def test_not_held_by_what_is_in_it(caller: Caller, scratch: Path) -> None:
    """A directory or a file inside that is open or mapped, a working directory, and the owning
    user namespace do not hold it. They stay of use; but a directory of a namespace that is gone
    is no source any more: EINVAL."""
    leaf = tmpfs(scratch / "leaf", "file.txt")
    caller.act()
    with NamespaceThread() as thread:
        fd = copy(leaf)
        number = ns_id(fd)
        owner = ns_get_userns(fd)
        directory = thread.call_in(fd, lambda: os.open("/", os.O_RDONLY))
        path_only = thread.call_in(fd, lambda: os.open("/", os.O_PATH))
        file = thread.call_in(fd, lambda: os.open("/file.txt", os.O_RDONLY))
        mapped = mmap.mmap(file, 8, prot=mmap.PROT_READ)
        os.fchdir(directory)
        assert exists(number)

        os.close(fd)

        assert gone(number), "held by what is open, mapped or a working directory in it"
        assert os.listdir(directory) == os.listdir(".") == ["file.txt"]
        assert mapped[:8] == os.pread(file, 8, 0) == b"file.txt"
        assert os.fstat(owner).st_ino == os.stat("/proc/self/ns/user").st_ino
        for source in (directory, path_only, AT_FDCWD):
            for recursive in (False, True):
                fails(errno.EINVAL, copy, "", dirfd=source, recursive=recursive)


@pytest.mark.rule("T2", "R8")
@fixes.MARKS_IN_PROCESS_CONTEXT
@pytest.mark.needs("mount events")
def test_not_held_by_a_mark(caller: Caller, scratch: Path) -> None:
    """Who only watches its mount events (fanotify) does not hold it, whether there are events
    that were not read, or none."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    held = {}
    with NamespaceThread() as thread:
        for events in ("no events", "events not read"):
            fd = copy(leaf)
            number = ns_id(fd)
            watch = mount_watch(fd)
            if events == "events not read":
                thread.call_in(fd, lambda: mount("tmpfs", "/", "tmpfs"))
            os.close(fd)
            held[events] = not gone(number)
            os.close(watch)

    assert held == {"no events": False, "events not read": False}


@pytest.mark.rule("T2")
def test_not_held_by_the_dead(caller: Caller, scratch: Path) -> None:
    """A process inside holds it until it dies; as a zombie, not yet waited for, it does not."""
    leaf = tmpfs(scratch / "leaf")
    caller.act()
    fd = copy(leaf)
    number = ns_id(fd)

    def move_in() -> None:
        enter(fd)
        os.close(fd)

    with holding(move_in) as inside:
        os.close(fd)
        held = {"by the living": exists(number)}
        os.kill(inside.pid, signal.SIGKILL)
        os.waitid(os.P_PID, inside.pid, os.WEXITED | os.WNOWAIT)
        held["by a zombie"] = not gone(number)

    assert held == {"by the living": True, "by a zombie": False}


@pytest.mark.rule("T2")
@pytest.mark.parametrize("detach", [False, True], ids=["close", "detach"])
def test_chain_of_binds(detach: bool, scratch: Path) -> None:
    """A namespace that is bind-mounted in another one lives as long as that: when the first of a
    chain goes, or its bind is detached there, all that hang on it go too."""
    top = tmpfs(scratch / "top", "target")
    bind(Path("/proc"), top / "proc")
    with NamespaceThread() as thread:
        chain = [copy(top, recursive=True) for _ in range(4)]
        numbers = [ns_id(fd) for fd in chain]
        for older, newer in itertools.pairwise(chain):
            thread.call_in(
                older,
                partial(mount, f"/proc/self/fd/{newer}", "/target", None, MS_BIND),
            )
        for fd in chain[1:]:
            os.close(fd)
        assert [exists(number) for number in numbers] == [True] * 4

        if detach:
            thread.call_in(chain[0], partial(umount2, "/target", MNT_DETACH))
        else:
            os.close(chain[0])

        first, *others = numbers
        assert gone(*others)
        assert exists(first) if detach else gone(first)
