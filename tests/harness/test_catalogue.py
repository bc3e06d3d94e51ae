# SPDX-License-Identifier: GPL-2.0-only
"""The cases as a whole: every upstream test has its counterpart, every case says what it is."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.utils.process import in_child

ROOT = Path(__file__).resolve().parents[2]

#: The fixture open_tree_ns of open_tree_ns_test.c: every variant runs every test.
_VARIANTS = (
    "basic_root",
    "recursive_root",
    "subdir_tmp",
    "subdir_proc",
    "recursive_tmp",
    "recursive_run",
    "invalid_recursive_alone",
)
_VARIANT_TESTS = ("create_namespace", "setns_into_namespace", "verify_mount_properties")

#: Every test of the kernel's own selftests for the flag (Linux 7.3, open_tree_ns_test.c and
#: open_tree_ns_covered_test.c), as the kernel's runner names them: fixture.variant.test.
UPSTREAM = frozenset(
    {f"open_tree_ns.{variant}.{test}" for variant in _VARIANTS for test in _VARIANT_TESTS}
    | {
        "open_tree_ns_caps.requires_cap_sys_admin",
        "open_tree_ns_userns.create_in_userns",
        "open_tree_ns_userns.setns_in_userns",
        "open_tree_ns_userns.recursive_in_userns",
        "open_tree_ns_userns.umount_fails_einval",
        "open_tree_ns_userns.umount_succeeds",
        "open_tree_ns_unbindable.fails_on_unbindable",
        "open_tree_ns_unbindable.recursive_skips_on_unbindable",
        "open_tree_ns_covered.private_cover.foreign_user_namespace",
        "open_tree_ns_covered.unbindable_cover.foreign_user_namespace",
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """One collected case: its id, what it says of itself, and its markers' arguments."""

    nodeid: str
    docstring: str
    markers: tuple[tuple[str, tuple[object, ...]], ...]

    def arguments(self, marker: str) -> list[object]:
        """All arguments of all markers of this name."""
        return [value for name, args in self.markers if name == marker for value in args]


class _Collector:
    def __init__(self) -> None:
        self.cases: list[Case] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        names = ("upstream", "fixed_by", "needs", "rule", "isolated")
        for item in session.items:
            assert isinstance(item, pytest.Function)
            marks = tuple((m.name, m.args) for m in item.iter_markers() if m.name in names)
            self.cases.append(Case(item.nodeid, item.function.__doc__ or "", marks))


def _collect() -> Sequence[Case]:
    collector = _Collector()
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        arguments = ["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        status = pytest.main([*arguments, str(ROOT / "tests/open_tree_ns")], plugins=[collector])
    assert status == pytest.ExitCode.OK, output.getvalue()
    return collector.cases


@pytest.fixture(scope="session")
def cases() -> Sequence[Case]:
    """All kernel cases, collected once in a process of their own."""
    return in_child(_collect)


def test_every_upstream_test_has_a_case(cases: Sequence[Case]) -> None:
    """Each test of the kernel's selftests is re-expressed, and no case names one that is not."""
    named = {name for case in cases for name in case.arguments("upstream")}
    assert named == UPSTREAM
    assert len(UPSTREAM) == 31


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
