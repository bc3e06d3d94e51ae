# SPDX-License-Identifier: GPL-2.0-only
"""The packaged source: fetched once, found in the cache, and what is said where there is none."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from vm import paths
from vm.arch import Processor
from vm.distro import archive
from vm.distro.apt import Package, Unreachable
from vm.errors import Problem
from vm.kernel import debian_source


class Suite:
    """A suite with this one package."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.fetched = 0

    def names(self, prefix: str) -> list[str]:
        return [self.name] if self.name.startswith(prefix) else []

    def package(self, name: str) -> Package:
        return Package(name, "7.3.4-1", 9)

    def unpack(self, packages: Sequence[Package], folder: Path, what: str) -> None:
        self.fetched += 1
        (folder / "usr/src").mkdir(parents=True)
        with tarfile.open(folder / "usr/src/linux-source-7.3.tar.xz", "w:xz") as file:
            info = tarfile.TarInfo("linux-source-7.3/Makefile")
            info.size = 4
            file.addfile(info, io.BytesIO(b"all:"))


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Suite]:
    found = {"old": Suite("linux-source-6.1"), "new": Suite("linux-source-7.3")}

    def state(suite: str, _: Processor) -> tuple[Suite, str]:
        if suite not in found:
            raise Unreachable("Could not connect")
        return found[suite], suite

    monkeypatch.setattr(paths, "cache", lambda: tmp_path)
    monkeypatch.setattr(archive, "default_suites", lambda: iter(["old", "new"]))
    monkeypatch.setattr(archive, "state", state)
    return found


def test_the_first_suite_that_has_it_is_asked_once(
    suites: dict[str, Suite], tmp_path: Path
) -> None:
    for _ in range(2):
        folder = debian_source.get()
        assert folder == tmp_path / "sources/new/7.3.4-1"
        assert (folder / "Makefile").read_text() == "all:"
    assert suites["new"].fetched == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["7.3.4-1"]


def test_without_a_mirror_the_newest_in_the_cache_is_taken(suites: dict[str, Suite]) -> None:
    folder = debian_source.get()
    folder.with_name("7.3.10-1").mkdir()
    suites.clear()
    assert debian_source.get().name == "7.3.10-1"


def test_where_there_is_none_it_is_said_what_to_do(suites: dict[str, Suite]) -> None:
    del suites["new"]
    with pytest.raises(Problem) as error:
        debian_source.get()
    assert "old: none; Could not connect" in str(error.value)
    assert "\nhint: give a source tree with --kernel TREE" in str(error.value)
