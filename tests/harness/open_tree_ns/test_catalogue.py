# SPDX-License-Identifier: GPL-2.0-only
"""The cases as a whole: every upstream test has its counterpart, every case says what it is."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.open_tree_ns.upstream import FLAG, OUT_OF_SCOPE, UPSTREAM
from tests.open_tree_ns.catalogue import ROOT, RULES, Case, collect, problems, rendered
from tests.utils.probes.plugin import EXPENDABLE


@pytest.fixture(scope="session")
def cases() -> Sequence[Case]:
    """All kernel cases, collected once in a process of their own."""
    return collect()


def test_every_upstream_test_has_a_case(cases: Sequence[Case]) -> None:
    """Each test of the kernel's selftests is re-expressed, or not for a reason that is stated, and
    no case names one that is not there."""
    named = {name for case in cases for name in case.arguments("upstream")}
    excused = frozenset[str]().union(*OUT_OF_SCOPE.values())
    assert named == UPSTREAM
    assert UPSTREAM & excused == set()
    assert len(FLAG) == 31


def test_every_rule_has_a_case(cases: Sequence[Case]) -> None:
    """Every rule of the table has a case, and every case a rule of the table."""
    assert problems(RULES.read_text(), cases) == []


def test_table_of_rules_is_current(cases: Sequence[Case]) -> None:
    """The table names the cases as they are: python3 -m tests.open_tree_ns.catalogue --write."""
    text = RULES.read_text()
    assert text == rendered(text, cases)


def test_a_rule_without_a_case_is_noticed() -> None:
    """A row nobody checks, and a case that names no row, are both reported."""
    text = "| Q1 | Something holds. | |\n"
    case = Case("tests/test_x.py::test_y[z]", "", (("rule", ("Q2",)),))
    assert problems(text, []) == ["rule Q1 has no case"]
    assert problems(text, [case]) == [
        "rule Q1 has no case",
        "a case names rule Q2, which is not in the table",
    ]
    assert rendered("| Q2 | It holds. | old |", [case]) == "| Q2 | It holds. | x: y |\n"


def test_a_broken_module_is_told_in_few_words(tmp_path: Path) -> None:
    """The error alone, without the hundreds of cases that could be collected."""
    (tmp_path / "test_good.py").write_text("def test_one(): pass\n")
    (tmp_path / "test_broken.py").write_text("missing\n")
    with pytest.raises(ValueError, match="cannot be collected") as caught:
        collect(tmp_path)
    assert "NameError: name 'missing' is not defined" in str(caught.value)
    assert "test_one" not in str(caught.value)


def test_a_case_in_a_class_is_named_as_others_are() -> None:
    names = ("test_x.py::test_y[z::1]", "test_x.py::TestClass::test_y[z]", "test_x.py::test_y")
    assert {Case(f"tests/{name}", "", ()).short_name for name in names} == {"x: y"}


@pytest.mark.skipif(sys.flags.optimize > 1, reason="python -OO keeps no docstrings")
def test_every_case_says_what_it_checks(cases: Sequence[Case]) -> None:
    """The docstring is the rule in a sentence."""
    assert [case.nodeid for case in cases if not case.docstring.strip()] == []


def test_every_case_is_isolated_and_needs_the_flag(cases: Sequence[Case]) -> None:
    """No case runs in pytest's own process, and none runs on a kernel without the flag."""
    for case in cases:
        assert "isolated" in dict(case.markers), case.nodeid
        assert "OPEN_TREE_NAMESPACE" in case.arguments("needs"), case.nodeid


def test_fixes_are_named_in_full(cases: Sequence[Case]) -> None:
    """A fixed_by marker gives commit, version and subject."""
    for case in cases:
        for name, arguments in case.markers:
            if name == "fixed_by":
                assert len(arguments) == 3, case.nodeid


#: What all of a machine shares: not the limits of user namespaces, of which a case has its own.
_SHARED = re.compile(
    r"/proc/sys/(?!user/)|/sys/kernel/|/proc/sysrq|\b(faults_possible|mount_max)\("
)
_WRITES = re.compile(r"O_RDWR|O_WRONLY|write|\b(faults_possible|mount_max)\(")


def test_what_a_machine_shares_is_changed_on_expendable_kernels_only(cases: Sequence[Case]) -> None:
    """A case that is killed leaves such a setting as it is, and others live under it meanwhile."""
    changing = set()
    for path in (ROOT / "tests/open_tree_ns").glob("test_*.py"):
        text = path.read_text()
        for node in ast.parse(text).body:
            part = ast.get_source_segment(text, node) or ""
            if isinstance(node, ast.FunctionDef) and _SHARED.search(part) and _WRITES.search(part):
                # A fixture changes it for every case that may use it.
                changing.add(f"{path.name}::{node.name if node.name.startswith('test_') else ''}")
    assert changing == {
        "test_beneath_propagation.py::test_mount_max_counts",
        "test_receivers.py::test_full_receiver_refuses_for_all",
        "test_sources.py::test_mount_max_does_not_count_for_the_copy",
        "test_stress_faults.py::",
    }
    concerned = [case for case in cases if any(part in case.nodeid for part in changing)]
    assert len(concerned) > 1
    assert [c.nodeid for c in concerned if EXPENDABLE not in c.arguments("needs")] == []
