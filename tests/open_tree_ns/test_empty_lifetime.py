# SPDX-License-Identifier: GPL-2.0-only
"""Empty mount namespaces: what they count against, what they hold, and what holds them."""

from __future__ import annotations

import errno
import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import copy, enter, in_cloned_empty
from tests.utils.expect import fails, outcome
from tests.utils.mounts.limits import allow_mnt_namespaces, enter_counted_userns, open_limit
from tests.utils.mounts.settle import gone, settled, within_limit
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs
from tests.utils.tasks.process import holding
from tests.utils.uapi.constants import CLONE_NEWUTS, UNSHARE_EMPTY_MNTNS
from tests.utils.uapi.nsfs import current_mnt_ns, exists, listns, ns_id
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import attach, umount2, unshare

pytestmark = pytest.mark.needs("UNSHARE_EMPTY_MNTNS")


@pytest.mark.rule("E8")
@pytest.mark.needs("user namespace", "sysctl")
def test_limit() -> None:
    """It counts against user.max_mnt_namespaces: ENOSPC where there is no room. The place is there
    again when it has ended."""
    used = enter_counted_userns()
    limit = open_limit()

    def make() -> str:
        return outcome(in_cloned_empty, 0, lambda: len(mount_table()))

    allow_mnt_namespaces(used, limit)
    refused = outcome(unshare, UNSHARE_EMPTY_MNTNS), make()
    allow_mnt_namespaces(used + 1, limit)
    made = settled(make, "success")
    # In the place of that: the one the caller is in is needed until it has the new one.
    within_limit(partial(unshare, UNSHARE_EMPTY_MNTNS))

    assert refused == ("ENOSPC", "ENOSPC")
    assert made == "success"


@pytest.mark.rule("E8")
@pytest.mark.needs("nested user namespace", "UTS namespace", "sysctl")
def test_failure_half_way(scratch: Path) -> None:
    """A call that makes the empty namespace and then fails for another kind leaves nothing of it,
    where there is room for one, nor moves the caller."""
    used = enter_counted_userns()
    os.chdir(scratch)
    Path("/proc/sys/user/max_uts_namespaces").write_text("0")
    allow_mnt_namespaces(used + 1)
    before = mount_table(), mnt_id_of("."), mnt_id_of("/")

    for _ in range(3):
        fails(errno.ENOSPC, unshare, UNSHARE_EMPTY_MNTNS | CLONE_NEWUTS)
        fails(errno.ENOSPC, in_cloned_empty, int(CLONE_NEWUTS), os.getpid)

    assert (mount_table(), mnt_id_of("."), mnt_id_of("/")) == before
    assert outcome(within_limit, partial(copy, scratch)) == "success"


@pytest.mark.rule("E9")
@pytest.mark.parametrize("step", ["cwd", "root"])
def test_old_places_are_let_go(step: str, scratch: Path) -> None:
    """The caller holds nothing of where it stood: what was its working directory, or its root, can
    be unmounted, no EBUSY, while it goes on in the empty namespace."""
    top = tmpfs(scratch / "top")

    def move() -> None:
        if step == "root":
            os.chroot(top)
            os.chdir("/")
        os.chdir("." if step == "root" else top)
        unshare(UNSHARE_EMPTY_MNTNS)

    with holding(move):
        assert outcome(umount2, top) == "success"


@pytest.mark.rule("E9")
def test_held_by_tasks_and_descriptors() -> None:
    """The empty namespace of a child can be entered from outside, and ends with the last task in
    it and the last descriptor of it."""
    here = current_mnt_ns()

    def make() -> None:
        unshare(UNSHARE_EMPTY_MNTNS)
        # To be seen by: a namespace without mounts has nothing to list, from outside.
        attach(fresh_tmpfs(), "/")

    with holding(make) as child:
        fd = os.open(child.proc("ns/mnt"), os.O_RDONLY | os.O_CLOEXEC)
        number = ns_id(fd)

        enter(fd)
        found = [mount.fs_type for mount in mount_table()]
        enter(here)
    assert found == ["tmpfs"]
    assert exists(number)
    os.close(fd)
    assert gone(number)


@pytest.mark.rule("E10")
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
def test_listed() -> None:
    """It is listed while a task is in it, and no longer than that."""
    with holding(lambda: unshare(UNSHARE_EMPTY_MNTNS)) as child:
        fd = os.open(child.proc("ns/mnt"), os.O_RDONLY | os.O_CLOEXEC)
        number = ns_id(fd)
        os.close(fd)
        while_there = number in listns()

    assert while_there
    assert not settled(lambda: number in listns(), False)
