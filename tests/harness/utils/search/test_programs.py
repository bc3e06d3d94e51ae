# SPDX-License-Identifier: GPL-2.0-only
"""Searches: their options, the models they compare with, and the children they run in."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from tests.harness.helpers.mount_tables import made
from tests.utils.model.prediction import predict_refusal
from tests.utils.model.propagation import Mount, Propagation
from tests.utils.search.fork_server import fork_server
from tests.utils.search.programs import Program
from tests.utils.tasks.process import ChildError, in_child, shared_numbers
from tests.utils.uapi.constants import MS_SHARED, MS_UNBINDABLE, MountFlags

SEARCHING = """
import pytest
@pytest.mark.stress
def test_search(search):
    for seed in search.seeds():
        search.done += 1
        assert seed != 7
def test_ordinary(): pass
"""


def run(pytester: pytest.Pytester, *arguments: str) -> tuple[int, str]:
    """Run a search and an ordinary case; pytest's status, and what it printed."""
    pytester.makepyfile(SEARCHING)
    done = pytester.runpytest_subprocess("-p", "tests.utils.search.plugin", *arguments)
    return int(done.ret), done.stdout.str()


def test_searches_are_left_out(pytester: pytest.Pytester) -> None:
    status, text = run(pytester)
    assert status == 0
    assert "1 passed, 1 deselected" in text


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["serial", "n2"])
def test_a_search_tells_how_far_it_came(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    status, text = run(pytester, "--stress=0.01", "--stress-seed=100", *workers)
    assert status == 0
    assert "2 passed" in text
    assert "test_search: " in text
    assert ", from seed 100" in text


def test_what_was_found_names_its_seed(pytester: pytest.Pytester) -> None:
    status, text = run(pytester, "--stress=60", "--stress-seed=5")
    assert status == 1
    assert "seed 6\nseed 7\n" in text
    assert "test_search: 3 in " in text


def test_no_time_is_an_error(pytester: pytest.Pytester) -> None:
    status, _ = run(pytester, "--stress=0")
    assert status == 4


# --- the models -----------------------------------------------------------------------------------

# /t with /t/a (shared), /t/b (unbindable) with /t/b/c, and a mount namespace's file at /t/n.
TABLE = [
    made(1, 0, "/"),
    made(2, 1, "/t"),
    made(3, 2, "/t/a", kind=MountFlags(MS_SHARED), peers=1),
    made(4, 2, "/t/b", kind=MountFlags(MS_UNBINDABLE)),
    made(5, 4, "/t/b/c"),
    made(6, 2, "/t/n", fs_type="nsfs", root="mnt:[1]"),
]


def refusal(
    mnt_id: int,
    directory: str,
    *locked: int,
    recursive: bool = True,
    foreign: bool = False,
) -> str | None:
    """The predicted errno for a call on TABLE."""
    return predict_refusal(
        TABLE, mnt_id, directory, recursive=recursive, foreign=foreign, locked=locked
    )


def test_refusals() -> None:
    assert refusal(2, "/t") is None
    assert refusal(2, "/t", foreign=True) is None
    assert refusal(99, "/t") == "EINVAL", "a mount that is not in the table"
    assert refusal(4, "/t/b", foreign=True) == "EINVAL", "an unbindable source"


def test_refusals_without_recursion() -> None:
    assert refusal(2, "/t", recursive=False) is None
    assert refusal(2, "/t", 3, recursive=False) == "EINVAL", "a locked child"
    assert refusal(2, "/t/x", 3, recursive=False) is None, "one that lies elsewhere"
    assert refusal(2, "/t", recursive=False, foreign=True) == "EINVAL"
    assert refusal(2, "/t/x", recursive=False, foreign=True) is None
    assert refusal(2, "/t", 5, recursive=False) is None, "a grandchild"


def test_refusals_of_what_cannot_be_left_out() -> None:
    assert refusal(2, "/t", 4) == "EPERM", "unbindable and locked"
    assert refusal(2, "/t", 4, foreign=True) is None, "copied, for a foreign caller"
    assert refusal(2, "/t", 5) is None, "below one that is left out"
    assert refusal(2, "/t", 6) == "EPERM", "a mount namespace's file, locked"
    assert refusal(2, "/t", 6, foreign=True) == "EPERM"


A, B, C, D = [(number, "top") for number in range(4)]


@pytest.fixture
def ties() -> Propagation:
    """A, which is shared, B, its peer, and C, its slave."""
    ties = Propagation()
    ties.add(A)
    ties.make_shared(A)
    ties.copy(A, B, foreign=False)
    ties.copy(A, C, foreign=True)
    return ties


def reached(ties: Propagation) -> dict[Mount, set[Mount]]:
    """Where an event on each of A, B and C arrives."""
    return {mount: ties.reached(mount) for mount in (A, B, C)}


def test_events_go_to_peers_and_slaves(ties: Propagation) -> None:
    assert reached(ties) == {A: {A, B, C}, B: {A, B, C}, C: {C}}


def test_a_slave_that_is_shared_passes_events_on(ties: Propagation) -> None:
    ties.make_shared(C)
    ties.copy(C, D, foreign=True)
    assert ties.reached(A) == {A, B, C, D}
    assert ties.reached(C) == {C, D}


def test_the_last_peer_leaves_its_slaves_to_its_master(ties: Propagation) -> None:
    ties.make_shared(C)
    ties.copy(C, D, foreign=True)
    ties.make_private(C)
    assert ties.reached(A) == {A, B, D}


def test_a_peer_becomes_a_slave_of_those_it_leaves(ties: Propagation) -> None:
    ties.make_slave(A)
    assert reached(ties) == {A: {A}, B: {A, B, C}, C: {C}}
    ties.make_slave(B)
    assert reached(ties) == {A: {A}, B: {B}, C: {C}}, "nobody is left to receive from"


def test_a_private_mount_receives_nothing(ties: Propagation) -> None:
    ties.make_private(B)
    assert reached(ties) == {A: {A, C}, B: {B}, C: {C}}
    ties.remove(A)
    assert ties.reached(C) == {C}


# --- where they run -------------------------------------------------------------------------------


def test_each_run_is_a_child_of_its_own() -> None:
    with fork_server(lambda number: (number, os.getpid())) as run_one:
        answers = [run_one(number) for number in range(3)]
    assert [number for number, _ in answers] == [0, 1, 2]
    assert len({pid for _, pid in answers} - {os.getpid()}) == 3


def test_what_a_run_raises_is_told_and_the_next_goes_on() -> None:
    def work(number: int) -> int:
        if number == 1:
            raise ValueError("one is wrong")
        if number == 2:
            raise OSError(errno.EPERM, "not allowed")
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with fork_server(work) as run_one:
        for number, text in ((1, "one is wrong"), (2, "not allowed"), (3, "SIGKILL")):
            with pytest.raises(ChildError, match=text):
                run_one(number)
        assert run_one(4) == 4


def test_a_program_prints_as_what_makes_it() -> None:
    program = Program(steps=("fresh a", "bind a c"), caller="foreign", recursive=False)
    assert eval(str(program)) == program


def test_numbers_are_shared_with_children() -> None:
    numbers = shared_numbers(2)

    def write() -> None:
        numbers[1] = 2**64 - 1

    in_child(write)
    assert [*numbers] == [0, 2**64 - 1]
