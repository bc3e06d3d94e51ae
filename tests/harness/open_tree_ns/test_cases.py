# SPDX-License-Identifier: GPL-2.0-only
"""The modules of the kernel cases as source: their imports, and the names of fixes and flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

import pytest

from tests.harness.helpers.suite import ROOT
from tests.open_tree_ns import fixes

CASES = ROOT / "tests/open_tree_ns"
MODULES = sorted(CASES.glob("*.py"))
FIXES = {name: mark for name, mark in vars(fixes).items() if isinstance(mark, pytest.MarkDecorator)}


def imported(source: str) -> Iterator[str]:
    """Yield the full name of every module, and of every name, that *source* imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = "tests.open_tree_ns" if node.level else ""
            module = ".".join(filter(None, (package, node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_cases(source: str) -> list[str]:
    """Return what *source* imports from modules of cases or their conftest."""
    cases = re.compile(r"tests\.(harness|(open_tree_ns|bench)\.(test_|conftest))")
    return [name for name in imported(source) if cases.match(name)]


def flags_of_its_own(source: str) -> list[str]:
    """Return the module-level names of *source* that stand for OPEN_TREE_NAMESPACE or _CLONE."""
    return [
        ast.unparse(node)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and {"OPEN_TREE_NAMESPACE", "OPEN_TREE_CLONE"}
        & {name.id for name in ast.walk(node.value) if isinstance(name, ast.Name)}
    ]


def test_no_case_imports_another() -> None:
    """A module of cases can be changed, moved or run alone: nobody imports it."""
    assert imports_cases("from tests.open_tree_ns.test_locks import tree") == [
        "tests.open_tree_ns.test_locks.tree"
    ]
    assert imports_cases("from .test_locks import tree\nimport os") == [
        "tests.open_tree_ns.test_locks.tree"
    ]
    found = {path.name: imports_cases(path.read_text()) for path in MODULES}
    assert {name: names for name, names in found.items() if names} == {}


def test_flags_are_named_in_one_place() -> None:
    """No module has a constant of its own for the flag, of which another has one that differs."""
    assert flags_of_its_own("FLAGS = OPEN_TREE_NAMESPACE | AT_RECURSIVE") == [
        "FLAGS = OPEN_TREE_NAMESPACE | AT_RECURSIVE"
    ]
    found = {path.name: flags_of_its_own(path.read_text()) for path in MODULES}
    assert [name for name, names in found.items() if names] == ["calls.py"]


@pytest.mark.parametrize("name", FIXES)
def test_a_fix_can_be_found_in_a_kernel_tree(name: str) -> None:
    """A fix has 12 digits or "-", versions, and a whole subject for ``git log --grep``."""
    commit, versions, subject = FIXES[name].args
    assert re.fullmatch(r"[0-9a-f]{12}|-", commit)
    assert re.fullmatch(r"\d+\.\d+(\.\d+|-rc\d+)?(, \d+\.\d+\.\d+)*", versions)
    assert re.fullmatch(r"[a-z_/]+: \S.*[^.]", subject)


def test_each_fix_is_there_once_and_used() -> None:
    """No fix stands twice, none is left over, and no case names one in its own words."""
    subjects = [mark.args[2] for mark in FIXES.values()]
    assert len(set(subjects)) == len(subjects)
    sources = {path.name: path.read_text() for path in MODULES if path.name != "fixes.py"}
    used = {name for text in sources.values() for name in re.findall(r"\bfixes\.([A-Z_]+)", text)}
    assert used == FIXES.keys()
    assert [name for name, text in sources.items() if "fixed_by(" in text] == []


#: What a case calls -> what it says that it needs. Kernels and machines may be without.
CALLS = {
    "inotify_watch": "inotify",
    "dnotify_watch": "dnotify",
    "mount_watch": "mount events",
    "fanotify_open_watch": "fanotify",
    "name_to_handle_at": "file handles",
    "flock": "file locks",
    "listns": "listns",
    "listns_page": "listns",
    "statmount_by_fd": "STATMOUNT_BY_FD",
    "fchroot": "fchroot",
    "allow_mnt_namespaces": "sysctl",
    "FSMOUNT_NAMESPACE": "FSMOUNT_NAMESPACE",
    "UNSHARE_EMPTY_MNTNS": "UNSHARE_EMPTY_MNTNS",
    "SlowFile": "FUSE",
    "HoldingDirectory": "FUSE passthrough",
}


def called(node: ast.AST, functions: Mapping[str, ast.AST]) -> set[str]:
    """Return the names that *node* uses, and those that *functions* of its module use for it."""
    names, todo = set[str](), [node]
    while todo:
        for part in ast.walk(todo.pop()):
            name = part.id if isinstance(part, ast.Name) else getattr(part, "attr", "")
            if name and name not in names:
                names.add(name)
                todo += filter(None, [functions.get(name)])
    return names


def unsaid_needs(source: str) -> list[str]:
    """Return the cases in *source* that use what they do not say that they need."""
    tree = ast.parse(source)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    everywhere = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"
    ]
    found = []
    for name, node in functions.items():
        marks = [*everywhere, *node.decorator_list]
        said = {
            part.value
            for mark in marks
            for part in ast.walk(mark)
            if isinstance(part, ast.Constant)
        }
        used = called(node, functions) if name.startswith("test_") else set()
        found += [f"{name}: {CALLS[one]}" for one in used & set(CALLS) if CALLS[one] not in said]
    return found


def test_cases_say_what_they_need() -> None:
    """Else a kernel built without it, or a machine that has no more of it, fails the case."""
    source = """
pytestmark = pytest.mark.needs("inotify")
def helper(): fcntl.flock(0, 0)
@pytest.mark.needs("listns")
def test_it(): inotify_watch("/"); listns(); helper()
"""
    assert unsaid_needs(source) == ["test_it: file locks"]
    found = {path.name: unsaid_needs(path.read_text()) for path in MODULES}
    assert {name: needs for name, needs in found.items() if needs} == {}
