# SPDX-License-Identifier: GPL-2.0-only
"""What a namespace counts against: user.max_mnt_namespaces, here and in all user namespaces above.

The limit is that of a user namespace of the case's own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy
from tests.utils.expect import fails
from tests.utils.mounts.limits import (
    allow_mnt_namespaces,
    enter_counted_userns,
    room_for,
)
from tests.utils.mounts.settle import within_limit
from tests.utils.mounts.trees import fresh_tmpfs, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_userns, userns_fd
from tests.utils.uapi.caps import capget, effective
from tests.utils.uapi.constants import (
    CLONE_NEWNS,
    CLONE_NEWUSER,
)
from tests.utils.uapi.nsfs import exists, ns_id
from tests.utils.uapi.syscalls import (
    setns,
    unshare,
)

pytestmark = pytest.mark.needs("user namespace")


@pytest.mark.rule("T3")
@pytest.mark.needs("nested user namespace", "sysctl")
def test_limit(caller: Caller, scratch: Path) -> None:
    """As many namespaces as user.max_mnt_namespaces leaves room for can be had at once, the next
    one is ENOSPC. A change counts at once; it takes away nothing there is."""
    used = enter_counted_userns()
    leaf = tmpfs(scratch / "leaf")
    if caller.foreign:
        caller.act()
        used = 0

    for room in (0, 1, 5):
        allow_mnt_namespaces(used + room)
        assert room_for(leaf, room) == room

    fds = [within_limit(partial(copy, leaf)) for _ in range(5)]
    allow_mnt_namespaces(used)
    assert [exists(ns_id(fd)) for fd in fds] == [True] * 5
    for fd in fds:
        fails(errno.ENOSPC, copy, leaf)
        os.close(fd)
    allow_mnt_namespaces(used + 1)
    assert room_for(leaf, 1) == 1


@pytest.mark.rule("T3")
@pytest.mark.needs("sysctl")
def test_what_else_counts(scratch: Path) -> None:
    """Detached trees (OPEN_TREE_CLONE, fsmount(2)) and namespaces of unshare(2) count as well:
    each takes the one place left, and gives it back."""
    used = enter_counted_userns()
    leaf = tmpfs(scratch / "leaf")
    allow_mnt_namespaces(used + 1)

    makers: tuple[Callable[[], int], ...] = (
        partial(copy, leaf),
        partial(clone, leaf),
        fresh_tmpfs,
    )
    for first in makers:
        fd = within_limit(first)
        for second in makers:
            fails(errno.ENOSPC, second)
        fails(errno.ENOSPC, unshare, CLONE_NEWNS)
        os.close(fd)
    # unshare(2) makes the new namespace before it lets go of the old one, whose place is free then.
    within_limit(partial(unshare, CLONE_NEWNS))
    assert room_for(leaf, 1) == 1


@pytest.mark.rule("T3")
@pytest.mark.needs("nested user namespace", "sysctl")
@pytest.mark.room(mount_namespaces=110, descriptors=140)
def test_each_ancestor_counts(scratch: Path) -> None:
    """A namespace counts in the user namespace that owns it and in all above, and the lowest of
    the limits decides; what one above uses itself is not there for those below."""
    used = enter_counted_userns()
    leaf = tmpfs(scratch / "leaf")

    def below(limit: int, depth: int, count: int) -> int:
        for _ in range(depth):
            enter_new_userns()
        allow_mnt_namespaces(limit)
        return room_for(leaf, count)

    found, rule = {}, {}
    for above, held, inner, depth in [
        (3, 0, 100, 1),
        (3, 2, 100, 3),
        (100, 1, 2, 1),
        (100, 0, 2, 3),
    ]:
        allow_mnt_namespaces(used + above)
        fds = [within_limit(partial(copy, leaf)) for _ in range(held)]
        setting = f"limit {above} above, {held} of them used; limit {inner}, {depth} below"
        rule[setting] = min(inner, above - held)
        found[setting] = in_child(partial(below, inner, depth, rule[setting]))
        # Those below are gone, and what they took here with them.
        found[setting + ", here afterwards"] = room_for(leaf, above - held)
        rule[setting + ", here afterwards"] = above - held
        for fd in fds:
            os.close(fd)

    assert found == rule


@pytest.mark.rule("T3")
# Root, to map two uids.
@pytest.mark.needs("root", "sysctl")
def test_limit_is_for_each_uid(scratch: Path) -> None:
    """The limit is one for each uid of the user namespace, that of the caller's effective one."""
    leaf = tmpfs(scratch / "leaf")
    setns(userns_fd("0 0 1\n1 1 1", "0 0 1"), CLONE_NEWUSER)
    allow_mnt_namespaces(2)
    everything = capget().permitted

    fds = [copy(leaf) for _ in range(2)]
    fails(errno.ENOSPC, copy, leaf)
    os.seteuid(1)
    with effective(everything):
        assert room_for(leaf, 2) == 2
    os.seteuid(0)
    fails(errno.ENOSPC, copy, leaf)
    for fd in fds:
        os.close(fd)
    assert room_for(leaf, 2) == 2
