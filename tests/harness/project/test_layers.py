# SPDX-License-Identifier: GPL-2.0-only
"""Which part of the code may import which: the directions are read from the code itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.harness.helpers.suite import ROOT

#: Package -> its floors, the top one first. What stands on a floor (sub-packages and modules) may
#: import what stands on the floors below it, and nothing beside it.
FLOORS = {
    "vm": (
        *("__main__", "commands", "faults", "report", "coverage", "run", "backend"),
        *("initramfs kernel", "distro", "compression elf process terminal", "paths pins"),
        *("arch", "errors guest"),
    ),
    "tests.utils": (
        *("watch", "report", "isolation probes search", "mounts", "model tasks", "uapi"),
        *("diagnosis", "cgroups expect pytest_internals", "deviation"),
    ),
}
#: Top-level folder -> those of the others that it may import.
FOLDERS = {
    "vm": {"tests.utils", "bench"},
    "bench": {"tests.utils"},
    "tests.utils": set[str](),
    "tests.open_tree_ns": {"tests.utils"},
    "contrib": set[str](),
}


@dataclass(frozen=True)
class Import:
    """One name of an import statement."""

    #: The module, or the name in one, that is imported.
    name: str
    line: int
    #: Whether it is carried out when the module is loaded.
    at_once: bool


def module_name(path: Path) -> str:
    """Return the dotted name of the module in *path*."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Return the modules of the project: dotted name -> file."""
    files = [*ROOT.glob("*.py")]
    for folder in ("bench", "contrib", "tests", "vm"):
        files += (ROOT / folder).rglob("*.py")
    return {module_name(path): path for path in files}


def _is_for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _imports(node: ast.AST, name: str, at_once: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = f"{name.rsplit('.', child.level)[0]}." if child.level else ""
            for alias in child.names:
                yield Import(f"{base}{child.module or ''}.{alias.name}", child.lineno, at_once)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            later = later or (isinstance(child, ast.If) and _is_for_types(child))
            yield from _imports(child, name, at_once and not later)


@cache
def imports(name: str) -> list[Import]:
    """Return what the module *name* imports, in functions and for types too."""
    return list(_imports(ast.parse(modules()[name].read_text(encoding="utf-8")), name, True))


def module_of(name: str) -> str:
    """Return the project's module that the imported *name* is or is in, empty for another's."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name


def within(name: str, package: str) -> bool:
    """Return whether the module *name* is *package* or in it."""
    return f"{name}.".startswith(f"{package}.")


def test_the_code_is_found() -> None:
    names = modules()
    assert {"conftest", "vm", "vm.__main__", "vm.guest.init", "tests.utils.report.case"} <= set(
        names
    )
    assert any(module_of(found.name) == "vm.commands.main" for found in imports("vm.__main__"))


@pytest.mark.parametrize("package", FLOORS)
def test_each_module_imports_what_stands_below_it(package: str) -> None:
    order = {unit: n for n, floor in enumerate(FLOORS[package]) for unit in floor.split()}
    mine = [name for name in modules() if within(name, package) and name != package]
    units = {name: name.removeprefix(f"{package}.").partition(".")[0] for name in mine}
    assert set(units.values()) == set(order), "all that is there, and no more, has its floor"
    wrong = [
        f"{modules()[name].relative_to(ROOT)}:{found.line} imports {found.name}"
        for name in mine
        for found in imports(name)
        if (unit := units.get(module_of(found.name)))
        and unit != units[name]
        and order[unit] <= order[units[name]]
    ]
    assert not wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_those_it_stands_on(folder: str) -> None:
    wrong = [
        f"{modules()[name].relative_to(ROOT)}:{found.line} imports {found.name}"
        for name in modules()
        if within(name, folder)
        for found in imports(name)
        if (target := module_of(found.name))
        and not any(within(target, one) for one in (folder, *FOLDERS[folder]))
    ]
    assert not wrong


def test_no_modules_import_one_another_in_a_circle() -> None:
    graph = {
        name: {module_of(found.name) for found in imports(name)} - {name} for name in modules()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_what_tests_share_is_in_no_module_of_tests() -> None:
    """A module of the harness's tests can be moved or run alone: nobody imports it."""
    is_of_tests = re.compile(r"tests\.harness\.(\w+\.)*(test_\w+|conftest)")
    wrong = [
        f"{modules()[name].relative_to(ROOT)}:{found.line} imports {found.name}"
        for name in modules()
        for found in imports(name)
        if is_of_tests.fullmatch(module_of(found.name))
    ]
    assert not wrong


def test_what_runs_in_the_guest_imports_nothing_of_the_hosts_side() -> None:
    wrong = [
        f"{modules()[name].relative_to(ROOT)}:{found.line} imports {found.name}"
        for name in modules()
        if within(name, "vm.guest")
        for found in imports(name)
        if within(module_of(found.name), "vm") and not within(module_of(found.name), "vm.guest")
    ]
    assert not wrong


def test_the_launcher_imports_nothing_that_must_be_installed() -> None:
    seen, waiting = set[str](), ["vm.__main__"]
    foreign = []
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        for found in imports(name):
            target = module_of(found.name)
            # A function's own import is one of the guest's, or of a program of its own.
            if target and (found.at_once or within(target, "vm")):
                waiting.append(target)
            elif found.at_once and found.name.partition(".")[0] not in sys.stdlib_module_names:
                foreign.append(f"{modules()[name].relative_to(ROOT)}:{found.line} {found.name}")
    assert "tests.utils.report.case" in seen
    assert not foreign


@pytest.mark.parametrize(
    "verb", [(), ("run",), ("shell",), ("bench",), ("kernels",), ("check",), ("faults",)]
)
def test_the_launcher_starts_from_any_folder_with_python_alone(
    verb: tuple[str, ...], tmp_path: Path
) -> None:
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r});"
        f" sys.argv[1:] = {[*verb, '--help']!r}; runpy.run_module('vm', run_name='__main__')"
    )
    command = [sys.executable, "-IS", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: python3 -m vm")
