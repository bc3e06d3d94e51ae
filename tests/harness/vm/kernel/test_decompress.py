# SPDX-License-Identifier: GPL-2.0-only
"""The kernel in a bzImage: found, decompressed, and used only where it boots."""

from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.helpers import images
from tests.harness.helpers.images import RELEASE, elf
from vm import paths
from vm.kernel.decompress import unpacked
from vm.kernel.image import Kind, identify

NOTE = struct.pack("<III", 4, 8, 18) + b"Xen\0" + struct.pack("<Q", 0x1000000)


def kernel_elf(note: bytes = NOTE) -> bytes:
    """An ELF kernel with *note* in a segment of notes."""
    banner = b"Linux version " + RELEASE
    data = bytearray(elf(0xFFFFFFFF81000000, banner=banner))
    segments = bytes(data[64 : 64 + 56])
    start = 64 + 2 * 56
    struct.pack_into("<HH", data, 54, 56, 2)
    notes = struct.pack("<IIQQQQQQ", 4, 4, start, 0, 0, len(note), len(note), 4)
    return bytes(data[:64]) + segments + notes + note + banner


def program(*command: str) -> Callable[[bytes], bytes]:
    """What packs with a program, and skips a test where there is none."""

    def pack(data: bytes) -> bytes:
        if shutil.which(command[0]) is None:
            pytest.skip(f"no {command[0]} program here")
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return pack


def sized(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """As the kernel's build does: the size behind it."""
    return lambda data: compress(data) + struct.pack("<I", len(data))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "xz": sized(lzma.compress),
    "lzma": sized(lambda data: lzma.compress(data, lzma.FORMAT_ALONE)),
    "bzip2": sized(bz2.compress),
    "zstd": sized(program("zstd", "-c")),
    "lz4": sized(program("lz4", "-lc")),
}


def bzimage(payload: bytes, *, protocol: int = 0x20F) -> bytes:
    """A bzImage with *payload* behind some code."""
    return images.bzimage(payload=payload, protocol=protocol)


@pytest.mark.parametrize("packer", PACKERS)
def test_each_compression_there_is(packer: str, tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(bzimage(PACKERS[packer](kernel_elf())))
    found = unpacked(identify(image), tmp_path)
    assert (found.kind, found.path) == (Kind.VMLINUX, tmp_path / "vmlinux")
    assert found.path.read_bytes() == kernel_elf()
    assert identify(found.path).kind is Kind.VMLINUX


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bzimage(gzip.compress(kernel_elf(b"\0" * 24))), id="no entry for PVH"),
        pytest.param(bzimage(gzip.compress(kernel_elf()), protocol=0x207), id="old protocol"),
        pytest.param(bzimage(gzip.compress(kernel_elf())[:-20]), id="cut"),
        pytest.param(bzimage(b"\x02!L\x18" + b"\1" * 40), id="damaged"),
        pytest.param(bzimage(gzip.compress(b"no kernel")), id="something else"),
    ],
)
def test_what_cannot_be_used_boots_as_it_is(data: bytes, tmp_path: Path) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(data)
    kernel = identify(image)
    assert unpacked(kernel, tmp_path) == kernel
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bzImage"]


def test_that_of_a_fetched_kernel_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    home = paths.cache() / "kernels" / "some"
    home.mkdir(parents=True)
    (home / "vmlinuz").write_bytes(bzimage(gzip.compress(kernel_elf())))
    kernel = identify(home / "vmlinuz")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    assert unpacked(kernel, scratch).path == home / "vmlinux"
    (home / "vmlinuz").write_bytes(b"")
    assert unpacked(kernel, scratch).path.read_bytes() == kernel_elf()
