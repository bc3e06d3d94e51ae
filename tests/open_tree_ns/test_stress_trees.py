# SPDX-License-Identifier: GPL-2.0-only
"""Trees nobody thought of, searched for: random programs against the model of a copy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.utils.programs import Program, deviation
from tests.utils.stress import Search
from tests.utils.userns import enter_new_mount_ns
from tests.utils.workshop import workshop

#: How many programs are tried with one seed.
ROUND = 100

#: What searches have found; each was once a difference between a kernel and the model.
FOUND: list[Program] = []


def tried_on(scratch: Path) -> Callable[[Program], str]:
    """A function that gives the deviation of a program, for a child."""

    def run(program: Program) -> str:
        enter_new_mount_ns()
        return deviation(program, scratch)

    return run


@pytest.mark.stress
@pytest.mark.needs("hypothesis", "user namespace")
@pytest.mark.rule("C2", "C6", "C7", "C8", "C9", "G1", "G2", "K1", "K5", "K6", "K7", "P12", "P15")
def test_any_program(search: Search, scratch: Path) -> None:
    """Whatever steps made the tree, and whoever calls: the call is refused as the rules say or
    makes the predicted copy, changes nothing, and lets no one read more than before."""
    with workshop(tried_on(scratch)) as deviation_of:
        import hypothesis

        from tests.utils.strategies import programs

        settings = hypothesis.settings(
            max_examples=ROUND,
            database=None,
            deadline=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            print_blob=False,
        )

        @settings
        @hypothesis.given(programs())
        def explore(program: Program) -> None:
            search.done += 1
            found = deviation_of(program)
            assert not found, f"{program}\n{found}"

        for seed in search.seeds():
            hypothesis.seed(seed)(explore)()


@pytest.mark.needs("user namespace")
@pytest.mark.rule("C2", "K5")
def test_programs_once_found(scratch: Path) -> None:
    """Each program that once showed a difference shows none."""
    with workshop(tried_on(scratch)) as deviation_of:
        deviations = {program: deviation_of(program) for program in FOUND}
    assert {program: text for program, text in deviations.items() if text} == {}
