# SPDX-License-Identifier: GPL-2.0-only
"""What a file is: which form of kernel, of which release, or why none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, arm64_image, bzimage, elf
from vm.arch import ARM64
from vm.errors import Exit, Problem
from vm.kernel.image import Kind, identify


def test_a_bzimage_is_known_with_its_release(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    kernel = identify(tmp_path / "vmlinuz")
    assert (kernel.kind, kernel.release) == (Kind.BZIMAGE, "7.9.1-test")


@pytest.mark.parametrize(
    ("address", "kind"),
    [(0xFFFFFFFF81000000, Kind.VMLINUX), (0x60000000, Kind.UML)],
    ids=["vmlinux", "uml"],
)
def test_the_load_address_tells_vmlinux_from_user_mode_linux(
    tmp_path: Path, address: int, kind: Kind
) -> None:
    (tmp_path / "linux").write_bytes(elf(address, banner=BANNER))
    kernel = identify(tmp_path / "linux")
    assert (kernel.kind, kernel.release) == (kind, "7.9.1-test")


def test_an_image_for_arm64_tells_its_release(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(arm64_image())
    kernel = identify(tmp_path / "vmlinuz")
    assert (kernel.kind, kernel.arch, kernel.release) == (Kind.IMAGE, ARM64, "7.9.1-test")


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (b"", "empty file"),
        (b"#!/bin/sh\n" * 100, "not a kernel image\nhint: give a bzImage"),
        (b"\0" * 0x38 + b"RSC\x05", "a kernel for riscv"),
        (bzimage(protocol=0x20C, flags=0), "a kernel for 32-bit x86, and guests are x86-64"),
        (bzimage()[:-1], "truncated bzImage"),
        (elf(0x400000), "not a Linux kernel"),
        (elf(0x60000000, banner=BANNER)[:-20], "truncated ELF"),
        (elf(0x60000000, banner=BANNER)[:100], "truncated ELF"),
        (elf(0x60000000, banner=BANNER, machine=183), "for arm64, which .*\nhint: give the Image "),
        (elf(0x60000000, banner=BANNER, machine=21), "not for x86-64"),
        (b"\x7fELF", "not for x86-64"),
    ],
)
def test_a_bad_kernel_is_named_with_the_reason(tmp_path: Path, contents: bytes, words: str) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(contents)
    with pytest.raises(Problem, match=words) as caught:
        identify(path)
    assert str(path) in str(caught.value)
    assert caught.value.status is Exit.HOST


def test_a_folder_and_nothing_are_no_kernels(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="is a directory"):
        identify(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Problem, match=r"pipe: not a regular file\nhint: "):
        identify(tmp_path / "pipe")
    with pytest.raises(Problem, match=r"No such file or directory\nhint: .*as debian=7\.0"):
        identify(tmp_path / "gone")
