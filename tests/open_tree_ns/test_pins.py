# SPDX-License-Identifier: GPL-2.0-only
"""That the call holds on to nothing: neither to what it copied, once the copy is gone, nor to
what it refused to copy, nor to the mounts it made on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.open_tree_ns.trees import tree_with_proc
from tests.utils.expect import fails, outcome
from tests.utils.mounts.copies import made_in_child
from tests.utils.mounts.settle import let_go
from tests.utils.mounts.trees import propagation, tmpfs, write
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_UNBINDABLE,
)
from tests.utils.uapi.inotify import inotify_watch, is_gone
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.statmount import listmount, mnt_id_of, statmount
from tests.utils.uapi.syscalls import (
    mount,
    umount2,
)

#: Far more calls than other processes take ids meanwhile.
MANY = 300
#: What is left of a file system nobody pins, when it is unmounted.
FREE = {"umount2": "success", "file system": "gone"}


def unmounting(path: Path, end: int, seconds: float = 2) -> dict[str, str]:
    """Unmount *path*; return how that ended, and whether the file system ends within *seconds*.

    :param end: the watch of the file system (see :func:`watch`).
    """
    ended = outcome(umount2, path)
    return {"umount2": ended, "file system": "gone" if is_gone(end, seconds) else "alive"}


@pytest.mark.rule("T1", "T4")
@pytest.mark.needs("inotify")
def test_a_copy_that_is_gone_pins_nothing(caller: Caller, scratch: Path) -> None:
    """Once the new namespace has ended, closed at once or entered and left, nothing holds what it
    was copied from: the source can be unmounted, no EBUSY, and its file system ends."""
    tops = [tmpfs(scratch / name) for name in ("single", "recursive", "entered")]
    for top in tops[1:]:
        (top / "child").mkdir()
    ends = {top: inotify_watch(top) for top in tops}

    def make() -> None:
        single, recursive, entered = tops
        caller.act()
        os.close(copy(single))
        os.close(copy(recursive, recursive=True))
        enter(copy(entered, recursive=True))

    in_child(make)

    found = {top.name: unmounting(top, end) for top, end in ends.items()}
    assert found == dict.fromkeys(["single", "recursive", "entered"], FREE)


@pytest.mark.rule("T1", "T2")
@pytest.mark.needs("inotify")
def test_the_end_of_the_namespace_ends_its_mounts(caller: Caller, scratch: Path) -> None:
    """A file system that is mounted nowhere but in the copy lives as long as the namespace, and
    ends with it."""
    top = tmpfs(scratch / "top")
    end = inotify_watch(top)
    copied = made_in_child(caller.act, lambda: copy(top, recursive=True))

    assert unmounting(top, end, seconds=0) == {"umount2": "success", "file system": "alive"}
    os.close(copied.ns_fd)

    assert is_gone(end), "the namespace is gone, its file system is not"


def refused_copies(caller: Caller, top: Path, times: int) -> None:
    """In a child, let *caller* try *times* times to copy *top*, which is unbindable."""

    def work() -> None:
        caller.act()
        for recursive in (False, True) * (times // 2):
            fails(errno.EINVAL, copy, top, recursive=recursive)

    in_child(work)


@pytest.mark.rule("T4")
@pytest.mark.needs("inotify")
def test_a_refused_call_pins_nothing(caller: Caller, scratch: Path) -> None:
    """What a call was refused to copy is not held by it: it can be unmounted, no EBUSY, and its
    file system ends."""
    top = propagation(tmpfs(scratch / "top"), MS_UNBINDABLE)
    end = inotify_watch(top)

    refused_copies(caller, top, 2)

    assert unmounting(top, end) == FREE


@pytest.mark.rule("T4")
def test_refused_calls_leak_no_mount(caller: Caller, scratch: Path) -> None:
    """The mounts a refused call made on its way are gone, the hidden base too, which no list shows:
    the small mount ids, of which the kernel gives the lowest that is free, are free again."""
    top = propagation(tmpfs(scratch / "top"), MS_UNBINDABLE)
    place = scratch / "place"
    place.mkdir()

    def next_free_id() -> int:
        mount("tmpfs", place, "tmpfs")
        number = statmount(mnt_id_of(place)).mnt_id_old
        umount2(place)
        return number

    taken = []
    for _ in range(5):  # the ids are the machine's: others may take some at the same time
        before = next_free_id()
        refused_copies(caller, top, MANY)
        taken.append(next_free_id() - before)
        if taken[-1] < MANY // 2:
            break

    assert taken[-1] < MANY // 2, f"mount ids taken by {MANY} refused calls, each time: {taken}"


@pytest.mark.rule("BK2", "T1")
@pytest.mark.needs("network namespace")
@fixes.NAMESPACE_LOOPS
@pytest.mark.upstream("nsfs_rbind_loop.own_ns_file_below_foreign_source")
def test_recursive_bind_cannot_pin_its_own_namespace(scratch: Path) -> None:
    """Outside, the file of the new namespace lies on a bind of some other file. Inside, a recursive
    bind of that would hold the namespace by a mount in itself: EINVAL; a single one is fine. And
    the namespace ends with its last task."""
    target = write(scratch / "target")
    mount("/proc/self/ns/net", target, None, MS_BIND)
    below = os.open(target, os.O_PATH)
    fd = copy(tree_with_proc(scratch), recursive=True)
    mnt_ns_id = ns_id(fd)
    mount(f"/proc/self/fd/{fd}", target, None, MS_BIND)

    def inside() -> dict[str, str]:
        enter(fd)
        source = f"/proc/self/fd/{below}"
        return {
            "rbind": outcome(mount, source, "/file", None, MS_BIND | MS_REC),
            "bind": outcome(mount, source, "/file", None, MS_BIND),
        }

    assert in_child(inside) == {"rbind": "EINVAL", "bind": "success"}
    umount2(target, MNT_DETACH)
    let_go(fd)
    assert outcome(listmount, ns_id=mnt_ns_id) == "ENOENT"
