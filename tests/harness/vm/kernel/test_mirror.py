# SPDX-License-Identifier: GPL-2.0-only
"""A second build of a source that holds a build: links to its own files, and to nothing made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.harness.helpers.images import a_source
from vm.errors import Problem
from vm.kernel import mirror

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source with a build in it."""
    folder = a_source(tmp_path / "linux")
    (folder / ".gitignore").write_text(".*\n!.gitignore\n*.o\n/vmlinux\n/include/generated/\n")
    (folder / "fs").mkdir()
    (folder / "include/generated").mkdir(parents=True)
    for name in ("fs/namespace.c", "fs/namespace.o", "vmlinux", ".config", "fs/.namespace.o.cmd"):
        (folder / name).write_text(name)
    (folder / "include/generated/x.h").touch()
    return folder


@pytest.fixture
def second(tmp_path: Path) -> Path:
    folder = tmp_path / "second"
    folder.mkdir()
    return folder


def linked(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink()}


def test_the_sources_own_files_are_linked_and_what_make_made_is_not(
    source: Path, second: Path
) -> None:
    mirror.refresh(source, second)
    assert linked(second) == {"Kbuild", "Kconfig", "Makefile", ".gitignore", "fs/namespace.c"}
    assert (second / "fs/namespace.c").read_text() == "fs/namespace.c"


def test_it_is_the_same_in_a_repository_and_where_a_package_ignores_all(
    source: Path, second: Path
) -> None:
    os.system(f"git -C {source} init --quiet")
    with (source / ".gitignore").open("a") as file:
        file.write("/*\n!/debian/\n")
    mirror.refresh(source, second)
    assert {"Kbuild", "Kconfig", "Makefile", "fs/namespace.c"} <= linked(second)
    assert not {"vmlinux", "fs/namespace.o", "include/generated/x.h"} & linked(second)


def test_a_file_that_comes_or_goes_does_so_in_the_second_folder(source: Path, second: Path) -> None:
    mirror.refresh(source, second)
    (second / "fs/namespace.o").write_text("built here")
    (source / "fs/namespace.c").unlink()
    (source / "fs/nsfs.c").touch()
    mirror.refresh(source, second)
    assert "fs/nsfs.c" in linked(second)
    assert not os.path.lexists(second / "fs/namespace.c")
    assert (second / "fs/namespace.o").read_text() == "built here"


def test_without_git_there_is_a_hint(
    source: Path, second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Problem, match=r"^git is missing.*\nhint: install git"):
        mirror.refresh(source, second)
