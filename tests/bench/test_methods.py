# SPDX-License-Identifier: GPL-2.0-only
"""The methods of the benchmark on the running kernel: each makes the container it should."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from bench import calls
from bench.layout import Ground, Layout, prepare
from bench.methods import METHODS, Method
from bench.readers import READERS, absent
from bench.work import Container, Done, Job, NoContainer, Way, look, perform
from tests.utils.mounts.trees import fresh_tmpfs, write
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import CLONE_NEWNS
from tests.utils.uapi.statmount import mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import setns

T = TypeVar("T")

#: The root, two mounts below it, one beside it, and three elsewhere.
LAYOUT = Layout(table=7, depth=2, siblings=1)
TREE = ["/", "/below", "/below/below"]
#: Mounts each method leaves in a container.
LEFT = {"a": TREE, "b": TREE, "c": TREE[:1], "d": TREE, "e": TREE[:1], "f": TREE}


def for_each(*methods: Method) -> pytest.MarkDecorator:
    """Run a case for each of *methods*, where the kernel can do it."""
    return pytest.mark.parametrize(
        "method",
        [
            pytest.param(method, id=method.letter, marks=pytest.mark.needs(*method.needs))
            for method in methods
        ],
    )


each = for_each(*METHODS.values())
each_that_copies = for_each(*(method for method in METHODS.values() if not method.fresh))


def on_ground(function: Callable[[Ground], T], layout: Layout = LAYOUT) -> T:
    """*function*, on a ground made in a child: there is no way back from one."""
    return in_child(lambda: function(prepare(layout)))


@dataclass(frozen=True)
class Standpoint:
    """What a process has for its root, and what is mounted there."""

    namespace: int
    fs_type: str
    #: The directory of the file system that the root is.
    directory: str
    names: list[str]
    mount_points: list[str | None]


def standpoint() -> Standpoint:
    root = statmount(mnt_id_of("/"))
    points = [mount.mnt_point for mount in mount_table()]
    return Standpoint(root.mnt_ns_id, root.fs_type, root.mnt_root, sorted(os.listdir("/")), points)


def test_ground() -> None:
    """The ground has exactly the mounts asked for, and nothing of the machine's."""
    found = on_ground(lambda _ground: standpoint())
    assert found.names == ["beside", "bystander", "container", "leaf", "table"]
    assert found.mount_points == [
        *("/", "/container/below", "/container/below/below", "/beside/0"),
        *("/table", "/table/0", "/table/1"),
    ]


@each
def test_container(method: Method) -> None:
    """The process ends up in another mount namespace whose root is the directory asked for, with
    what is mounted below it where the method copies that, and with nothing else; setns() leads
    back to where it was, and there nothing has changed."""

    def run(ground: Ground) -> tuple[Standpoint, Standpoint, Standpoint]:
        write(Path(os.fsdecode(ground.root), "here.txt"))
        before = standpoint()
        method.run(calls.real(), ground.root)
        inside = standpoint()
        setns(ground.home, CLONE_NEWNS)
        return before, inside, standpoint()

    before, inside, after = on_ground(run)

    assert after == before
    assert inside.namespace != before.namespace
    assert inside.fs_type == "tmpfs"
    assert inside.directory == ("/" if method.fresh else "/container")
    assert inside.names == ([] if method.fresh else ["below", "here.txt"])
    assert inside.mount_points == LEFT[method.letter]


@each
def test_count(method: Method) -> None:
    """How many mounts were made for a container is counted: a copy of the whole table, and the
    tree once more, by the methods that take the detour."""
    looks = on_ground(lambda ground: [look(method, ground) for _ in range(10)])
    tree = len(TREE)
    base = 1  # the hidden one
    created = {
        "a": base + LAYOUT.table + tree,
        "b": base + LAYOUT.table + tree,
        "c": base + 1,
        "d": base + tree,
        "e": base + 1,
        "f": tree + base + 1,
    }
    # fsmount() mounts its file system once before it copies it into the namespace.
    more = 1 if method.letter in "ef" else 0
    assert {found.mounts for found in looks} == {len(LEFT[method.letter])}
    # What others on the machine mount in the meantime counts, too.
    assert min(found.created for found in looks) == created[method.letter] + more


@each
def test_ways_of_measuring(method: Method) -> None:
    """A run makes one container at least, in this process or in a child, and leaves the caller
    where it was."""

    def run(ground: Ground) -> tuple[Standpoint, list[int], Standpoint]:
        before = standpoint()
        ways: tuple[Way, ...] = ("calls", "process", "fork", "hollow")
        done = [perform(Job(way, method.letter), ground) for way in ways]
        return before, [one.count for one in done if not isinstance(one, Container)], standpoint()

    before, counts, after = on_ground(run)
    assert counts == [1, 1, 1, 1]
    assert after == before


@for_each(*(method for method in METHODS.values() if method.handle))
def test_handle_that_nobody_enters(method: Method) -> None:
    """A namespace is made, with its root on its base, and the caller has not moved."""

    def run(ground: Ground) -> tuple[int, Standpoint, Standpoint]:
        before, last = standpoint(), mnt_id_of(fresh_tmpfs())
        perform(Job("handle", method.letter), ground)
        return mnt_id_of(fresh_tmpfs()) - last - 1, before, standpoint()

    made, before, after = on_ground(run)
    assert made >= 2
    assert after == before


@pytest.mark.parametrize("letter", READERS)
def test_reading_a_table(letter: str) -> None:
    """Each reader reads a copy of the whole table, again and again, and stands where it was."""
    if reason := absent(letter):
        pytest.skip(reason)

    def run(ground: Ground) -> tuple[Standpoint, list[int], Standpoint]:
        before = standpoint()
        ways: tuple[Way, ...] = ("reader", "reader-busy", "reader")
        done = [perform(Job(way, letter), ground) for way in ways]
        return before, [one.count for one in done if not isinstance(one, Container)], standpoint()

    before, counts, after = on_ground(run)
    assert counts == [1, 1, 1]
    assert after == before


@each_that_copies
def test_failure_is_an_error(method: Method) -> None:
    """A call that the kernel refuses ends the run: in a child as well."""
    missing = Ground(home=-1, proc=-1, root=b"/missing")

    def run(_ground: Ground) -> list[str]:
        found = []
        ways: tuple[Way, ...] = ("calls", "process", "fork")
        for way in ways:
            try:
                perform(Job(way, method.letter), missing)
            except FileNotFoundError as error:
                found.append(str(error.strerror))
        return found

    in_calls, in_process, in_fork = on_ground(run)
    assert in_calls.endswith(": No such file or directory")
    assert in_process == in_calls
    assert in_fork == "in a child: No such file or directory"


@pytest.mark.parametrize("way", ["bystander", "forker"])
def test_bystander(way: Way) -> None:
    """Who stands by times each pair of calls, or process, once at least, and leaves nothing."""

    def run(ground: Ground) -> tuple[Standpoint, Done | Container, Standpoint]:
        return standpoint(), perform(Job(way), ground), standpoint()

    before, done, after = on_ground(run)
    assert isinstance(done, Done)
    assert (done.count, len(done.latencies)) == (1, 1)
    assert 0 < done.latencies[0] <= done.seconds * 1e9 + 1
    assert after == before


def test_what_is_no_container_is_noticed() -> None:
    """A method that goes nowhere, or to another place, is not measured."""

    def chroot(k: calls.Calls, root: bytes) -> None:
        k.chroot(root)

    nowhere = Method("x", "", "", lambda k, root: None)
    elsewhere = Method("y", "", "", lambda k, root: METHODS["b"].run(k, b"/leaf"))
    only_chroot = Method("z", "", "", chroot)

    def run(method: Method, ground: Ground) -> str:
        try:
            look(method, ground)
        except NoContainer as error:
            return str(error)
        return "taken for one"

    assert on_ground(partial(run, nowhere)).startswith("(x) ended in namespace")
    assert on_ground(partial(run, only_chroot)).startswith("(z) ended in namespace")
    assert on_ground(partial(run, elsewhere)).startswith("(y) ended in namespace")


def test_shared_mounts() -> None:
    """Shared, each mount is in a peer group of its own; (a) still makes its container."""

    def run(ground: Ground) -> tuple[list[int], Container]:
        groups = [mount.mnt_peer_group for mount in mount_table()]
        return groups, look(METHODS["a"], ground)

    groups, found = on_ground(run, Layout(table=5, shared=True))
    assert 0 not in groups
    assert len(set(groups)) == 5
    assert found.mounts == 1
