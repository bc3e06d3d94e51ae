# SPDX-License-Identifier: GPL-2.0-only
"""Cases on the machine's own mount table: what they are given, and when a copy is judged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.open_tree_ns import test_machine as machine
from tests.utils.isolation import sandbox

GRANTED = sandbox.Facts(
    mount_namespace=True, own_root=True, pid_namespace=True, scratch=Path("/mnt")
)


def test_a_proc_that_is_refused_costs_the_pid_namespace_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The machine's /proc may be covered where that of the suite's own root is not."""
    monkeypatch.setattr(sandbox, "_problem", lambda facts: "EPERM" * facts.pid_namespace)
    found = sandbox.on_machines_root.__wrapped__(GRANTED)
    assert found == replace(GRANTED, own_root=False, pid_namespace=False, scratch=found.scratch)
    assert found.scratch is not None


@dataclass(frozen=True)
class Entry:
    """A mount in a table."""

    mnt_id: str


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the table is, look for look: a letter for each mount; the last one stays."""
    words: list[str] = []

    def mount_table(*, tolerant: bool) -> list[Entry]:
        assert tolerant
        return [*map(Entry, words.pop(0) if len(words) > 1 else words[0])]

    monkeypatch.setattr(machine, "mount_table", mount_table)
    return words


def test_a_copy_is_judged_when_the_table_stays(tables: list[str]) -> None:
    tables += ["abc", "abc", "a"]
    looks: list[object] = []
    machine.while_still(looks.append)
    assert looks == [[*map(Entry, "abc")]]


def test_what_comes_of_a_changing_table_is_not_judged(tables: list[str]) -> None:
    """An error counts by the same condition as a result."""
    tables += ["abcd", "abc", "abc", "ab", "ab"]
    looks: Iterator[object] = iter([OSError("gone"), AssertionError("counts"), "good"])

    def look(_: object) -> object:
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    assert machine.while_still(look) == "good"


def test_an_error_while_nothing_changes_is_the_cases(tables: list[str]) -> None:
    tables += ["a"]

    def look(_: object) -> None:
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"):
        machine.while_still(look)


def test_what_has_come_is_the_calls(tables: list[str]) -> None:
    """Others take mounts away from a private copy of the table, and add none."""
    tables += ["ab", "bc"]
    with pytest.raises(AssertionError, match="mounted by the call"):
        machine.while_still(lambda _: None)


def test_a_table_that_never_stays_is_a_skip_in_the_end(tables: list[str]) -> None:
    tables += ["a" * count for count in range(100, 0, -1)]
    looks: list[object] = []
    with pytest.raises(pytest.skip.Exception, match="during each of 20 copies"):
        machine.while_still(looks.append)
    assert len(looks) == 20
