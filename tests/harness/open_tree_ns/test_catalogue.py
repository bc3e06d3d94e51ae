# SPDX-License-Identifier: GPL-2.0-only
"""The cases as a whole: every upstream test has its counterpart, every case says what it is."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Sequence

import pytest

from tests.open_tree_ns.catalogue import ROOT, RULES, Case, collect, problems, rendered
from tests.utils.probes.plugin import EXPENDABLE

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


def _tests(fixture: str, *names: str) -> frozenset[str]:
    """Name tests as the kernel's runner does: fixture.test; those without a fixture by program."""
    return frozenset(f"{fixture}.{name}" for name in names)


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

#: The same of the flag's neighbours: fsmount_ns_test.c, empty_mntns_test.c,
#: clone3_empty_mntns_test.c, overmount_chroot_test.c, move_mount_test.c, and rw_hint_test.c's part.
NEIGHBOURS = frozenset(
    {
        f"fsmount_ns.{variant}.{test}"
        for variant in ("basic_tmpfs", "cloexec_only", "namespace_only")
        for test in (*_VARIANT_TESTS, "verify_tmpfs_type")
    }
    | _tests("fsmount_ns_caps", "requires_cap_sys_admin")
    | _tests(
        "fsmount_ns_userns",
        "create_in_userns",
        "setns_in_userns",
        "umount_fails_einval",
        "umount_succeeds",
    )
    | _tests("fsmount_ns_mount_attrs", "readonly", "noexec", "nosuid", "noatime", "combined")
    | _tests(
        "empty_mntns",
        "basic",
        "with_clone_newuser",
        "with_other_ns_flags",
        "eperm_without_caps",
        "many_source_mounts",
        "cwd_reset",
        "mount_properties",
        "repeated_unshare",
        "root_is_own_parent",
        "listmount_single_entry",
        "overmount_tmpfs",
    )
    | _tests("empty_mntns_test", "invalid_flags", "clone_newns_full_copy", "other_ns_unaffected")
    | _tests(
        "clone3_empty_mntns",
        "basic",
        "implies_newns",
        "with_explicit_newns",
        "with_newuser",
        "with_other_ns_flags",
        "with_newpid",
        "with_clone_fs_fails",
        "with_pidfd",
        "eperm_without_caps",
        "parent_unchanged",
        "many_parent_mounts",
        "mount_properties",
        "listmount_single_entry",
        "child_overmount_tmpfs",
        "repeated",
        "setns_into_child_mntns",
    )
    | _tests("clone3_empty_mntns_test", "unknown_flags_rejected", "clone3_newns_full_copy")
    | _tests("overmount_chroot_test", "overmount_chroot")
    | _tests(
        "move_mount",
        "beneath_rootfs_success",
        "beneath_rootfs_old_root_stacked",
        "beneath_rootfs_in_chroot_fail",
        "beneath_rootfs_in_chroot_success",
        "beneath_rootfs_locked_transfer",
        "beneath_rootfs_locked_containment",
        "beneath_non_rootfs_locked_transfer",
        "beneath_non_rootfs_locked_containment",
    )
    | _tests("rw_hint_test", "empty_mntns_root")
)


@pytest.fixture(scope="session")
def cases() -> Sequence[Case]:
    """All kernel cases, collected once in a process of their own."""
    return collect()


def test_every_upstream_test_has_a_case(cases: Sequence[Case]) -> None:
    """Each test of the kernel's selftests is re-expressed, and no case names one that is not."""
    named = {name for case in cases for name in case.arguments("upstream")}
    assert named == UPSTREAM | NEIGHBOURS
    assert (len(UPSTREAM), len(NEIGHBOURS)) == (31, 64)


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
_SHARED = re.compile(r"/proc/sys/(?!user/)|/sys/kernel/|/proc/sysrq|\bfaults_possible\(")
_WRITES = re.compile(r"O_RDWR|O_WRONLY|write|\bfaults_possible\(")


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
        "test_sources.py::test_mount_max_does_not_count_for_the_copy",
        "test_stress_faults.py::",
    }
    concerned = [case for case in cases if any(part in case.nodeid for part in changing)]
    assert len(concerned) > 1
    assert [c.nodeid for c in concerned if EXPENDABLE not in c.arguments("needs")] == []
