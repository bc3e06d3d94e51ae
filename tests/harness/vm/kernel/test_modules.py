# SPDX-License-Identifier: GPL-2.0-only
"""Modules for a guest: found by name, decompressed, in the order of what they depend on."""

from __future__ import annotations

import gzip
import importlib
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vm.errors import Problem
from vm.kernel import modules


def module(name: str, depends: str = "") -> bytes:
    """A file with what is read of a module."""
    return f"\x7fELF....\0name={name}\0depends={depends}\0license=GPL\0".encode()


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.xz": lzma.compress,
    ".ko.gz": gzip.compress,
    ".ko.zst": lambda data: (
        subprocess.run(["zstd", "-c"], input=data, capture_output=True, check=True).stdout
    ),
}


def install(folder: Path, name: str, data: bytes, end: str = ".ko") -> None:
    path = folder / f"kernel/fs/{name}{end}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PACK[end](data))


@pytest.mark.parametrize("end", PACK)
def test_a_module_is_decompressed(tmp_path: Path, end: str) -> None:
    try:
        install(tmp_path, "overlay", module("overlay"), end)
    except FileNotFoundError:
        pytest.skip("no zstd program here")
    install(tmp_path, "unneeded", module("unneeded"), end if end != ".ko.zst" else ".ko")
    assert modules.collect(tmp_path) == {"overlay": module("overlay")}


def test_what_a_module_depends_on_comes_before_it(tmp_path: Path) -> None:
    install(tmp_path, "overlay", module("overlay", "ex_portfs,builtin"))
    install(tmp_path, "ex-portfs", module("ex_portfs", "deepest"))
    install(tmp_path, "deepest", module("deepest"))
    install(tmp_path, "fuse", module("fuse", "deepest"))
    assert list(modules.collect(tmp_path)) == ["deepest", "ex_portfs", "overlay", "fuse"]


@pytest.mark.parametrize("suffix", ["o", "ko"], ids=["since 6.3", "before"])
def test_a_build_tree_lists_its_modules(tmp_path: Path, suffix: str) -> None:
    for name in ("fs/overlayfs/overlay", "old/fuse"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / f"{name}.ko").write_bytes(module("x"))
    (tmp_path / "modules.order").write_text(f"fs/overlayfs/overlay.{suffix}\nfs/gone.{suffix}\n")
    # What is not listed was built by an earlier make, with other options.
    assert list(modules.collect(tmp_path)) == ["overlay"]


def test_installed_modules_are_listed_without_their_compression(tmp_path: Path) -> None:
    install(tmp_path, "overlay", module("overlay"), ".ko.xz")
    (tmp_path / "modules.order").write_text("kernel/fs/overlay.ko\n")
    assert list(modules.collect(tmp_path)) == ["overlay"]


def test_without_modules_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert modules.collect(tmp_path) == {}


@pytest.mark.parametrize("end", [".ko.xz", ".ko.gz"])
def test_a_damaged_module_is_named(tmp_path: Path, end: str) -> None:
    install(tmp_path, "overlay", module("overlay"), end)
    path = next(tmp_path.rglob(f"*{end}"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(Problem, match=rf"overlay\{end}: "):
        modules.collect(tmp_path)


def test_without_the_zstd_program_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overlay.ko.zst").write_bytes(b"\x28\xb5\x2f\xfd")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(importlib, "import_module", raise_import_error)
    with pytest.raises(Problem, match=r"overlay\.ko\.zst: needs the program zstd"):
        modules.collect(tmp_path)


def raise_import_error(name: str) -> None:
    raise ImportError(name)


def test_a_signed_module_keeps_its_signature(tmp_path: Path) -> None:
    # A real ELF file, which strip(1) would rewrite.
    signed = Path("/proc/self/exe").read_bytes() + b"~Module signature appended~\n"
    install(tmp_path, "overlay", signed)
    assert modules.collect(tmp_path)["overlay"] == signed
