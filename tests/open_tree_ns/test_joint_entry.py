# SPDX-License-Identifier: GPL-2.0-only
"""Entering by way of a task inside (a pidfd), alone and together with its user namespace."""

from __future__ import annotations

import os
import select
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import copy, enter, place
from tests.open_tree_ns.trees import small_tree
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.settle import gone, within_limit
from tests.utils.tasks.process import holding, in_child, started
from tests.utils.tasks.userns import become_foreign, enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, CAP_SYS_CHROOT, keep_only
from tests.utils.uapi.constants import CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWUTS, Clone
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.statmount import listmount, mnt_id_of
from tests.utils.uapi.syscalls import prctl, setns

pytestmark = pytest.mark.rule("U11")

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def test_pidfd_takes_access_to_the_task(scratch: Path) -> None:
    """By a pidfd only those enter who may read from the task (ptrace(2)), to whom it is dumpable:
    EPERM for others, though they may enter by the namespace's handle."""
    fd = copy(small_tree(scratch), recursive=True)

    def live_inside(dumpable: int) -> None:
        enter(fd)
        keep_only()
        prctl(_PR_SET_DUMPABLE, dumpable)

    def entered(by: int) -> str:
        keep_only(CAP_SYS_ADMIN, CAP_SYS_CHROOT)
        return str(outcome(setns, by, CLONE_NEWNS))

    found = {}
    for dumpable in (0, 1):
        with holding(partial(live_inside, dumpable)) as task:
            pidfd = os.pidfd_open(task.pid)
            found[dumpable] = [in_child(partial(entered, by)) for by in (pidfd, fd)]

    assert found == {0: ["EPERM", "success"], 1: ["success", "success"]}


@pytest.mark.needs("user namespace")
def test_creator_of_the_owner_enters_both(scratch: Path) -> None:
    """Whoever made the owner's user namespace enters it and the mount namespace by one call on a
    pidfd, though without capability at home: they are asked of the user namespace that is joined.
    So it can one by one, in this order. The mount namespace alone, or first, is EPERM."""
    top = small_tree(scratch)

    def live_inside() -> None:
        become_foreign()
        enter(copy(top, recursive=True))

    def enter_by(*steps: tuple[int, int]) -> tuple[list[str], bool]:
        return [str(outcome(setns, *step)) for step in steps], mnt_id_of("/") == copied

    with holding(live_inside) as task:
        keep_only()
        pidfd = os.pidfd_open(task.pid)
        mnt, user = (os.open(task.proc(f"ns/{kind}"), os.O_RDONLY) for kind in ("mnt", "user"))
        copied, before = listmount(ns_fd=mnt)[0], place()
        ways = {
            "pidfd, both": [(pidfd, CLONE_NEWUSER | CLONE_NEWNS)],
            "pidfd, one by one": [(pidfd, CLONE_NEWUSER), (pidfd, CLONE_NEWNS)],
            "handles, one by one": [(user, CLONE_NEWUSER), (mnt, CLONE_NEWNS)],
            "pidfd, mounts alone": [(pidfd, CLONE_NEWNS)],
            "handle, mounts alone": [(mnt, CLONE_NEWNS)],
            "handles, mounts first": [(mnt, CLONE_NEWNS), (user, CLONE_NEWUSER)],
        }
        found = {name: in_child(partial(enter_by, *steps)) for name, steps in ways.items()}

    assert found == {
        "pidfd, both": (["success"], True),
        "pidfd, one by one": (["success", "success"], True),
        "handles, one by one": (["success", "success"], True),
        "pidfd, mounts alone": (["EPERM"], False),
        "handle, mounts alone": (["EPERM"], False),
        "handles, mounts first": (["EPERM", "success"], False),
    }
    assert place() == before


def test_refused_pidfds(scratch: Path) -> None:
    """By a pidfd no kind of namespace and what is no kind are EINVAL, as is one's own user
    namespace; a task that has ended has none: ESRCH, be it waited for or not."""
    fd = copy(small_tree(scratch), recursive=True)
    before = place()

    with holding(partial(enter, fd)) as task, started(lambda: None) as ended:
        inside, zombie = os.pidfd_open(task.pid), os.pidfd_open(ended.pid)
        assert select.select([zombie], [], [], 10)[0]
        found = {
            "none": outcome(setns, inside, 0),
            "no kind": outcome(setns, inside, CLONE_NEWNS | Clone.CLONE_VM),
            "own user namespace": outcome(setns, inside, CLONE_NEWNS | CLONE_NEWUSER),
            "ended": outcome(setns, zombie, CLONE_NEWNS),
        }
    found["waited for"] = outcome(setns, zombie, CLONE_NEWNS)

    assert found == {
        "none": "EINVAL",
        "no kind": "EINVAL",
        "own user namespace": "EINVAL",
        "ended": "ESRCH",
        "waited for": "ESRCH",
    }
    assert place() == before


@pytest.mark.needs("user namespace", "UTS namespace")
def test_joint_entry_that_is_refused_half_way(scratch: Path) -> None:
    """Where one of the namespaces of a pidfd is refused, here that of another owner, none is
    entered, and the mount namespace is not held."""
    top = small_tree(scratch)
    become_foreign()
    fd, before = copy(top, recursive=True), place()
    number = ns_id(fd)

    with holding(partial(enter, fd)) as task:
        end = outcome(setns, os.pidfd_open(task.pid), CLONE_NEWNS | CLONE_NEWUTS)
        alone = in_child(partial(outcome, setns, os.pidfd_open(task.pid), CLONE_NEWNS))
    os.close(fd)

    assert (end, alone) == ("EPERM", "success")
    assert place() == before
    assert gone(number), "a refused entry holds the namespace"


@pytest.mark.needs("nested user namespace", "sysctl")
def test_refused_joint_entry_keeps_no_user_namespace() -> None:
    """The credentials that were made ready for an entry with the user namespace go when it is
    refused: the user namespace they are of ends with its task, and leaves room for the next."""
    enter_new_userns()
    Path("/proc/sys/user/max_user_namespaces").write_text("1")

    def refused_in_its_own() -> Outcome:
        enter_new_userns()
        return outcome(setns, os.pidfd_open(os.getpid()), CLONE_NEWNS | CLONE_NEWUSER)

    found = [within_limit(partial(in_child, refused_in_its_own)) for _ in range(3)]

    assert found == ["EINVAL"] * 3
