# SPDX-License-Identifier: GPL-2.0-only
"""Trees and histories nobody thought of, compared with the model: a search, and fixed ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.utils.search import histories, programs
from tests.utils.search.fork_server import fork_server
from tests.utils.search.histories import History
from tests.utils.search.plugin import Search
from tests.utils.search.programs import Program
from tests.utils.tasks.userns import enter_new_mount_ns

T = TypeVar("T")

#: How many are tried with one seed.
ROUND = 100

#: What searches have found; each was once a difference between a kernel and the model.
PROGRAMS: list[Program] = [
    Program(steps=("fresh a",), caller="foreign", recursive=False),
    Program(steps=("fresh a/b", "fresh a"), caller="foreign", source="open", where="a/b"),
]
HISTORIES: list[History] = []
#: Trees nobody thought of, made once by chance: of every propagation type, of directories and
#: files, stacked and nested as it came.
TREES = [
    "fresh a; shared a; bind a c; slave c; shared c; fresh a/a; bind a/a c/a; bind c/a/a/g "
    "c/f; rbind a/a/a/b a/a; bind a/f c/f; rbind a c/a/c; fresh c/a/a; fresh a; fresh a; "
    "rbind a/c c/a/b",
    "fresh a; shared a; bind a c; slave c; fresh a/a; fresh a/c; fresh c; bind c a/a/a/b; "
    "private c; fresh a/c/a; rbind c/a/b c/a; slave a/c/a; bind a/c/a/f a/a/a/b/f; fresh a/c; "
    "bind a/a/f a/c/a/g",
    "fresh a; shared a; bind a c; slave c; fresh c/a; rbind a/a/b a/c; fresh a/a; fresh "
    "a/a/a/b; shared c; fresh c/a; bind a/f a/f; bind c/a/a/g a/a/a/g; rbind a/a c/a; fresh "
    "a; bind c/a/b c/c",
    "fresh a; shared a; bind a c; slave c; shared c; bind c/a/g c/a/g; fresh a/a/b; fresh "
    "a/c; unbindable c/a/b; fresh c/a; rshared c/c; fresh c/a/a/b; fresh c/c; fresh a/a; "
    "fresh a/a/c",
    "fresh a; shared a; bind a c; slave c; private c; bind a/a/g a/f; bind c/f c/a/g; fresh "
    "a; unbindable c; fresh a/c; fresh c/a/b; bind c/a/b/a a/c/a; bind a/c/f c/a/b/a/g; bind "
    "a/a/b c; fresh c",
]


def in_own_mount_ns(mismatch: Callable[[T, Path], str], scratch: Path, tried: T) -> str:
    """Return the mismatch of a program or history; for a child of a fork server."""
    enter_new_mount_ns()
    return mismatch(tried, scratch)


def explore(search: Search, scratch: Path, kind: str, mismatch: Callable[[T, Path], str]) -> None:
    """Try what the strategy *kind* makes until the time is over."""
    with fork_server(partial(in_own_mount_ns, mismatch, scratch)) as deviation_of:
        # Not before the fork server has been forked: it need not carry all that along.
        import hypothesis

        from tests.utils.search import strategies

        settings = hypothesis.settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=False,
        )

        @settings
        @hypothesis.given(getattr(strategies, kind)())
        def one(tried: T) -> None:
            search.done += 1
            found = deviation_of(tried)
            if found:
                search.found()
            assert not found, f"{tried}\n{found}"

        for seed in search.seeds():
            hypothesis.seed(seed)(one)()


@pytest.mark.stress
@pytest.mark.needs("hypothesis", "user namespace", "nested user namespace")
@pytest.mark.rule("C2", "C6", "C7", "C8", "C9", "G1", "G2", "K1", "K5", "K6", "K7", "P12", "P15")
def test_any_program(search: Search, scratch: Path) -> None:
    """Whatever steps made the tree, and whoever calls: the call is refused as the rules say or
    makes the predicted copy, changes nothing, and lets no one read more than before."""
    explore(search, scratch, "programs", programs.mismatch)


@pytest.mark.stress
@pytest.mark.needs("hypothesis", "user namespace")
@pytest.mark.rule("G1", "G2", "G3", "K1", "T1")
def test_any_history(search: Search, scratch: Path) -> None:
    """Whatever happens in whichever namespace, in any order: each holds what propagation and
    locks say, seen from outside and from inside."""
    explore(search, scratch, "histories", histories.mismatch)


@pytest.mark.needs("user namespace")
@pytest.mark.rule("C2", "K6")
@fixes.KEEP_COVERED
def test_once_found(scratch: Path) -> None:
    """What once showed a difference between a kernel and the model shows none."""
    with fork_server(partial(in_own_mount_ns, programs.mismatch, scratch)) as deviation_of:
        found = {str(program): deviation_of(program) for program in PROGRAMS}
    with fork_server(partial(in_own_mount_ns, histories.mismatch, scratch)) as deviation_of:
        found |= {str(history): deviation_of(history) for history in HISTORIES}
    assert {tried: text for tried, text in found.items() if text} == {}


@pytest.mark.rule("C2", "C6", "C7", "G1", "G2")
@fixes.KEEP_COVERED
@fixes.KEEP_UNBINDABLE
@pytest.mark.room(mounts=150)
def test_trees_made_by_chance(caller: Caller, scratch: Path) -> None:
    """Of each tree the copy is the one the model predicts, the caller's mounts do not change, and
    a foreign caller reads inside nothing that it could not read before."""
    made = [Program(tuple(steps.split("; ")), caller=caller.value) for steps in TREES]
    with fork_server(partial(in_own_mount_ns, programs.mismatch, scratch)) as deviation_of:
        found = {str(program): deviation_of(program) for program in made}
    assert {tried: text for tried, text in found.items() if text} == {}
