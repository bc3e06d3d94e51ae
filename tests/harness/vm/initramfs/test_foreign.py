# SPDX-License-Identifier: GPL-2.0-only
"""Guests of another processor: Python from packages, unpacked and never run here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.harness.helpers.archives import read
from tests.harness.helpers.elves import elf
from vm import elf as reader
from vm.arch import PROCESSORS, Processor
from vm.distro import apt
from vm.errors import Problem
from vm.initramfs import bytecode, foreign, libraries, python, rootfs
from vm.initramfs.python import Runtime

OWN = f"python{sys.version_info.major}.{sys.version_info.minor}"
LOADER = "/lib/ld.so.1"


@pytest.mark.parametrize("name", ["arm64", "i386"])
def test_a_file_of_32_bits_and_of_64_tells_what_it_needs(name: str) -> None:
    data = elf(PROCESSORS[name].elf, "libc.so.6", "libz.so.1", loader=LOADER)
    assert reader.processor(data) == PROCESSORS[name].elf
    assert reader.loader(data) == LOADER
    assert reader.libraries(data) == ["libc.so.6", "libz.so.1"]
    assert reader.loader(elf(PROCESSORS[name].elf, "libc.so.6")) == ""


def test_the_readers_word_on_this_machines_own_python_is_that_of_ldd() -> None:
    program = Path(sys.executable).resolve()
    listed, _ = libraries.needed(program, ())
    data = program.read_bytes()
    named = {*reader.libraries(data), Path(reader.loader(data)).name}
    assert named <= {Path(path).name for path in listed}


class Mirror(apt.Apt):
    """Plays a mirror whose Python is *python*: its packages unpack to a few files."""

    python = OWN

    def update(self, force: bool = False) -> None:
        pass

    def names(self, prefix: str) -> list[str]:
        return [name for name in (f"{self.python}-minimal",) if name.startswith(prefix)]

    def package(self, name: str) -> apt.Package:
        return apt.Package(name, f"{self.python.removeprefix('python')}.2-1", 7)

    def missing(self, *names: str) -> list[apt.Package]:
        return [self.package(name) for name in names]

    def unpack(self, packages: Sequence[apt.Package], folder: Path, what: str) -> None:
        names = [package.name for package in packages]
        assert names == [f"{self.python}-minimal", f"lib{self.python}-stdlib"]
        processor = next(one for one in PROCESSORS.values() if what.endswith(one.debian))
        library = f"usr/lib/{self.python}"
        files = {
            f"usr/bin/{self.python}": elf(processor.elf, "libc.so.6", loader=LOADER),
            f"usr/lib/{processor.debian}-linux/libc.so.6.1": elf(processor.elf, "ld.so.1"),
            f"usr/lib/{processor.debian}-linux/ld.so.1": elf(processor.elf),
            f"{library}/os.py": b"name = 'posix'\n",
            f"{library}/lib-dynload/_good.so": elf(processor.elf, "libc.so.6"),
            f"{library}/lib-dynload/_lacking.so": elf(processor.elf, "libgone.so.1"),
            f"etc/{self.python}/sitecustomize.py": b"# here\n",
        }
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        triplet = folder / f"usr/lib/{processor.debian}-linux"
        (triplet / "libc.so.6").symlink_to("libc.so.6.1")
        (folder / "usr/lib/ld.so.1").symlink_to(f"/usr/lib/{processor.debian}-linux/ld.so.1")
        (folder / library / "sitecustomize.py").symlink_to(f"/etc/{self.python}/sitecustomize.py")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """The launcher's runtime, in a cache of the test's own, with a mirror that has everything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(apt, "own_sites", lambda: [("http://mirror", "suite", "main")])
    monkeypatch.setattr(apt, "distribution", lambda: ("debian", "suite"))
    monkeypatch.setattr(apt, "Apt", Mirror)
    return python.find()


def base(processor: Processor, own: Runtime) -> dict[str, bytes]:
    found = rootfs.base(foreign.runtime(processor, own)).read_bytes()
    return {name: data for name, _, data in read(found)}


@pytest.mark.parametrize("name", ["arm64", "i386"])
def test_the_base_has_the_packages_python_and_this_machines_pytest(name: str, own: Runtime) -> None:
    processor = PROCESSORS[name]
    files = base(processor, own)
    programs = {path: data for path, data in files.items() if data.startswith(b"\x7fELF")}
    assert {reader.processor(data) for data in programs.values()} == {processor.elf}
    assert set(programs) == {
        f"usr/bin/{OWN}",
        f"usr/lib/{name}-linux/libc.so.6.1",
        f"usr/lib/{name}-linux/ld.so.1",
        f"usr/lib/{OWN}/lib-dynload/_good.so",
    }
    # The loader where the program looks for it, and links that led out of the packages.
    assert files[LOADER[1:]] == f"/usr/lib/{name}-linux/ld.so.1".encode()
    assert files[f"usr/lib/{OWN}/sitecustomize.py"] == b"# here\n"
    assert "vm/site/pytest/__init__.py" in files
    module = f"usr/lib/{OWN}/os.py"
    code = bytecode.pyc(foreign.root(processor) / module, f"/{module}")
    assert files[bytecode.pyc_name(module)] == code


def test_what_of_a_distribution_is_for_this_machine_alone_stays_here(
    own: Runtime, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    (site / "thing-1.dist-info").mkdir(parents=True)
    (site / "thing-1.dist-info/METADATA").write_text("Name: thing\nVersion: 1\n")
    (site / "thing-1.dist-info/RECORD").write_text("thing.py,,\n_quick.so,,\n")
    (site / "thing.py").touch()
    (site / "_quick.so").write_bytes(elf(PROCESSORS["amd64"].elf))
    more = replace(own, distributions=tuple(metadata.distributions(path=[str(site)])))
    files = base(PROCESSORS["arm64"], more)
    assert "vm/site/thing.py" in files
    assert "vm/site/_quick.so" not in files


def test_a_program_whose_library_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(elf(PROCESSORS["arm64"].elf, "libgone.so.1"))
    with pytest.raises(Problem, match=r"program needs libgone\.so\.1, which .* lacks"):
        libraries.needed_below(tmp_path, tmp_path / "program", ())


def test_of_another_version_of_python_no_byte_code_is_made(
    own: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Mirror, "python", "python3.99")
    processor = PROCESSORS["arm64"]
    found = foreign.runtime(processor, own)
    assert (found.executable, found.compiler) == (Path("/usr/bin/python3.99"), None)
    assert not [name for name in base(processor, own) if name.endswith(".pyc")]
    project = rootfs.project(found).read_bytes()
    assert not [name for name, _, _ in read(project) if name.endswith(".pyc")]
    assert rootfs.shebang(found) == b"#!/usr/bin/python3.99 -IS\n"


def test_the_packages_are_fetched_once(own: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    first = foreign.runtime(PROCESSORS["arm64"], own)
    monkeypatch.setattr(apt, "own_sites", list)
    assert foreign.runtime(PROCESSORS["arm64"], own) == first
    with pytest.raises(Problem, match=r"no Python for i386, .*\nhint: take a kernel for"):
        foreign.runtime(PROCESSORS["i386"], own)
