# SPDX-License-Identifier: GPL-2.0-only
"""The catalogue as it is, and what is said of one that makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.utils.report.known import known
from vm import paths
from vm.errors import Problem
from vm.faults import catalogue
from vm.faults.catalogue import HAND, Edit, Fault

WHOLE = """
file = "fs/x.c"
[[fault]]
id = "a"
rule = "K1"
sees = "s"
function = "f"
find = "f(x)"
replace = "0"
"""


def loaded(folder: Path, text: str) -> list[Fault]:
    (folder / "locks.toml").write_text(text)
    (folder / "operators.toml").write_text("")
    return catalogue.load(folder)


def test_rules_and_fixes_are_those_that_cases_have() -> None:
    there = known(paths.ROOT)
    for fault in catalogue.load():
        assert not there.missing(fault.rules, [fault.fix] if fault.fix else []), fault.id


def test_rules_of_functions_are_those_that_cases_have() -> None:
    found = catalogue.operators()
    names = [name for functions in found.functions.values() for name in functions]
    assert set(found.rules) <= set(names)
    rules = {rule for rules in found.rules.values() for rule in rules}
    assert not known(paths.ROOT).missing(sorted(rules), [])


def test_the_catalogue_is_large_enough_and_says_what_is_seen() -> None:
    faults = catalogue.load()
    assert len(faults) > 100
    assert all(fault.sees.endswith(".") for fault in faults)


def test_a_fault_is_read(tmp_path: Path) -> None:
    (fault,) = loaded(tmp_path, WHOLE)
    assert fault == Fault("a", "locks", HAND, (Edit("fs/x.c", "f", "f(x)", "0"),), "s", ("K1",))
    assert fault.selection == ("--rule=K1",)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('sees = "s"', "", "locks.toml: a: no sees"),
        ('rule = "K1"', "", "no rule or fix"),
        ('find = "f(x)"', 'find = "0"', "another in its place"),
        ('find = "f(x)"', 'find = "f(x"', "a bracket is open: f(x\nhint: "),
        ('sees = "s"', 'see = "s"', "unknown key see"),
        ('id = "a"', 'id = a"', "locks.toml: "),
    ],
)
def test_what_makes_no_sense_is_named(tmp_path: Path, old: str, new: str, text: str) -> None:
    with pytest.raises(Problem) as error:
        loaded(tmp_path, WHOLE.replace(old, new))
    assert text in str(error.value)


def test_an_id_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="two of this id"):
        loaded(tmp_path, WHOLE + WHOLE.replace('file = "fs/x.c"', ""))


def test_faults_are_chosen_by_id_family_kind_and_pattern(tmp_path: Path) -> None:
    faults = loaded(tmp_path, WHOLE + WHOLE.replace('file = "fs/x.c"', "").replace('"a"', '"b"'))
    for patterns, ids in (
        ([], "ab"),
        (["a"], "a"),
        (["locks"], "ab"),
        (["hand"], "ab"),
        (["[b-z]"], "b"),
    ):
        assert "".join(fault.id for fault in catalogue.chosen(faults, patterns)) == ids
    with pytest.raises(Problem, match="no fault, family or kind"):
        catalogue.chosen(faults, ["a", "c"])
