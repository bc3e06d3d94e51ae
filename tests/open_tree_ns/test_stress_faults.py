# SPDX-License-Identifier: GPL-2.0-only
"""Each allocation of a call fails in turn: the call fails cleanly, or does all it should."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import SUCCESS
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.limits import (
    allow_mnt_namespaces,
    count_until_enospc,
    enter_counted_userns,
    room_for,
)
from tests.utils.mounts.root import enter_unlocked_namespace
from tests.utils.mounts.trees import fresh_tmpfs, propagation, tmpfs
from tests.utils.search.plugin import Search
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import (
    MNT_DETACH,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
)
from tests.utils.uapi.fault_injection import each_fault, faults_possible, open_fail_nth
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import mount, umount2

pytestmark = [
    pytest.mark.stress,
    # The settings of fault injection are the machine's.
    pytest.mark.needs("root", "user namespace", "fault injection", "expendable kernel"),
]

#: What a failing allocation makes of a call: no memory, or no way to count the namespace.
ALLOWED = {SUCCESS, "ENOMEM", "ENOSPC"}
MOUNTS = 50
LIMIT = 8


@pytest.fixture(autouse=True)
def injecting() -> Iterator[None]:
    """Allow faults to be injected, and few namespaces: one that stays counted is missed."""
    with faults_possible():
        enter_counted_userns()
        allow_mnt_namespaces(LIMIT)
        yield


def many_mounts(scratch: Path) -> Path:
    """Make a tree of many mounts, half of them shared, the first without mounts below."""
    top = tmpfs(scratch / "top")
    for number in range(MOUNTS):
        place = tmpfs(top / str(number))
        if number % 2:
            propagation(place, MS_SHARED)
    return top


def copies_under_faults(call: Callable[[], int], expected: list[str]) -> Counter[str]:
    """Let each allocation of *call*, which makes a copy, fail; count how it ended."""
    before, ends = mount_table(), Counter[str]()
    for attempt in each_fault(open_fail_nth(), call):
        ends[attempt.end] += 1
        if attempt.result is not None:
            lines = namespace_tree(attempt.result).lines()
            os.close(attempt.result)
            assert lines == expected, f"the copy is not whole, with fault {attempt.fault}"
    assert mount_table() == before
    return ends


def check(search: Search, run: Callable[[], Counter[str]], leaf: Path) -> None:
    """Run *run* in a child, again and again, and look for what stays behind."""
    counted = count_until_enospc(leaf)
    for _ in search.seeds():
        ends = in_child(run)
        search.done += ends.total()
        assert set(ends) <= ALLOWED, f"unheard-of ends of calls with a failing allocation: {ends}"
        assert ends["ENOMEM"], f"no allocation failed: {ends}"
        assert room_for(leaf, counted) == counted, "namespaces stay counted"


@pytest.mark.rule("T4")
@pytest.mark.parametrize("recursive", [True, False], ids=["recursive", "single"])
def test_creation(caller: Caller, recursive: bool, search: Search, scratch: Path) -> None:
    """Whichever allocation fails: ENOMEM, ENOSPC, or a copy that is whole; the caller's mounts
    stay what they are, and no namespace stays counted."""
    top = many_mounts(scratch)
    source = top if recursive else top / "0"
    expected = predict_copy(source, recursive=recursive, foreign=caller.foreign).lines()

    def run() -> Counter[str]:
        caller.act()
        return copies_under_faults(partial(copy, source, recursive=recursive), expected)

    check(search, run, top / "0")


@pytest.mark.needs("unlocked root")
@pytest.mark.rule("T4", "G5")
def test_creation_on_a_shared_base(search: Search, scratch: Path) -> None:
    """The same where the base of the new namespace joins a peer group, and must leave it again:
    the caller's own base is alone there afterwards, so that as a slave it would have no master."""
    leaf = tmpfs(scratch / "leaf")

    def run() -> Counter[str]:
        enter_unlocked_namespace()
        fail_nth = open_fail_nth()
        tree = fresh_tmpfs()
        here = copy("", dirfd=tree)
        enter(here)
        umount2("/", MNT_DETACH)
        enter(here)
        mount(None, "/", None, MS_SHARED)
        ends = Counter[str]()
        for attempt in each_fault(fail_nth, lambda: copy("", dirfd=tree)):
            ends[attempt.end] += 1
            if attempt.result is not None:
                assert namespace_tree(attempt.result).mount_points() == ["/"]
                os.close(attempt.result)
        propagation(Path("/"), MS_SLAVE)
        own = namespace_tree()
        assert own.mnt_propagation == MS_PRIVATE, f"bases of no namespace are peers of {own.line()}"
        return ends

    check(search, run, leaf)


@pytest.mark.rule("T4", "N1")
def test_entry(search: Search, scratch: Path) -> None:
    """A setns(2) that runs out of memory has moved nobody; one that did not has."""
    leaf = tmpfs(scratch / "leaf", "file")

    def run() -> Counter[str]:
        home, root = current_mnt_ns(), os.stat("/")
        fd = copy(leaf)
        ends = Counter[str]()
        for attempt in each_fault(open_fail_nth(), lambda: enter(fd)):
            ends[attempt.end] += 1
            inside = Path("/file").exists()
            assert inside == (attempt.end == SUCCESS), f"with fault {attempt.fault}: {attempt.end}"
            if inside:
                enter(home)
            assert os.path.samestat(os.stat("/"), root)
        return ends

    check(search, run, leaf)
