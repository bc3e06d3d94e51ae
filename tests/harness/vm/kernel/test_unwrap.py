# SPDX-License-Identifier: GPL-2.0-only
"""Images with the kernel wrapped up: compressed, as zboot, as a unified kernel image."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, arm64_image, bzimage, elf
from tests.harness.helpers.packages import COMPRESS, Pack, program
from vm.arch import X86_64
from vm.commands import main
from vm.errors import Exit, Problem
from vm.kernel import source
from vm.kernel.image import Kernel, Kind

VMLINUX = elf(0xFFFFFFFF81000000, banner=BANNER)
UML = elf(0x60000000, banner=BANNER)
RISCV = (b"MZ".ljust(0x38, b"\0") + b"RSC\x05").ljust(0x1000, b"\0")
ARM64 = arm64_image().ljust(0x1000, b"\0")
#: As the kernel's build makes them, too: lz4 in its older format.
PACK: dict[str, Pack] = {**COMPRESS, "lz4 -l": program("lz4", "-lc"), "lzo": program("lzop", "-c")}

#: A zboot image for arm64, for any machine's assembler, and how its linker is to lay it out.
ZBOOT = """
.section .head, "a"
head:   .ascii "MZ\\0\\0zimg"
        .long payload - head, payload_size - {size}, 0, 0
        .asciz "{kind}"
        .org 0x38
        .long 0x818223cd, pe - head
pe:     .ascii "PE\\0\\0"
        .short 0xaa64, 1
        .long 0, 0, 0
        .short section - optional, 0x206
optional: .short 0x20b
        .org 0x9c
        .short 10
        .org 0xc8
section: .ascii ".text\\0\\0\\0"
        .long all - 0x1000, 0x1000, all - 0x1000, 0x1000, 0, 0, 0, 0x60000020
        .balign 4096
.section .payload, "a"
        .incbin "vmlinuz"
"""
ZBOOT_LAYOUT = """
SECTIONS {
    .head : { *(.head) }
    .rodata : ALIGN(8) { payload = .; *(.payload) payload_end = .; . = ALIGN(4096); }
    payload_size = ABSOLUTE(payload_end - payload);
    all = ABSOLUTE(.);
    /DISCARD/ : { *(.note*) }
}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def find(path: Path) -> Kernel:
    return source.find(str(path), X86_64, None).make()


def pe(sections: dict[str, bytes], machine: int = 0x8664) -> bytes:
    """An EFI program with these sections."""
    start = 0x400
    table = body = b""
    for name, data in sections.items():
        stored = -(-len(data) // 512) * 512
        offset = start + len(body)
        table += struct.pack("<8sIIII16x", name.encode(), len(data), 0x1000, stored, offset)
        body += data.ljust(stored, b"\0")
    header = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", machine, len(sections), 0, 0, 0, 112, 0)
    return (header.ljust(0x80, b"\0") + coff + bytes(112) + table).ljust(start, b"\0") + body


def zboot(payload: bytes, kind: bytes) -> bytes:
    """An EFI program as the kernel's zboot-header.S begins it, with *payload*."""
    header = b"MZ\0\0zimg" + struct.pack("<IIII", 0x200, len(payload), 0, 0) + kind
    pages = header.ljust(0x38, b"\0") + b"\xcd\x23\x82\x81"
    return pages.ljust(0x200, b"\0") + payload + struct.pack("<I", 1 << 24)


def needs_binutils() -> None:
    """Skip the test where a program of binutils is missing."""
    if None in map(shutil.which, ("as", "ld", "objcopy")):
        pytest.skip("no binutils here")


@pytest.mark.parametrize("form", PACK)
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (bzimage(), Kind.BZIMAGE),
        (VMLINUX, Kind.VMLINUX),
        (UML, Kind.UML),
        (ARM64, Kind.IMAGE),
    ],
    ids=["bzImage", "vmlinux", "uml", "Image"],
)
def test_a_compressed_kernel_is_decompressed(
    tmp_path: Path, form: str, data: bytes, kind: Kind
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(PACK[form](data))
    kernel = find(path)
    assert (kernel.kind, kernel.release, kernel.origin) == (kind, "7.9.1-test", str(path))
    assert kernel.path.read_bytes() == data
    assert os.access(kernel.path, os.X_OK)  # as User-Mode Linux is to be


def test_a_kernel_is_taken_out_of_a_unified_kernel_image(tmp_path: Path) -> None:
    path = tmp_path / "linux.efi"
    path.write_bytes(pe({".osrel": b"ID=x", ".cmdline": b"quiet", ".linux": bzimage()}))
    kernel = find(path)
    assert (kernel.kind, kernel.release) == (Kind.BZIMAGE, "7.9.1-test")
    assert kernel.path.read_bytes() == bzimage()


def test_it_is_so_with_an_image_that_binutils_made(tmp_path: Path) -> None:
    """As ukify and its like do: sections added to an EFI program."""
    needs_binutils()
    (tmp_path / "stub.s").write_text(".globl _start\n_start: ret\n")
    (tmp_path / "bzImage").write_bytes(bzimage(paragraphs=1001))
    (tmp_path / "cmdline").write_text("quiet")
    add = ["--add-section=.cmdline=cmdline", "--add-section=.linux=bzImage"]
    move = ["--change-section-vma=.cmdline=0x30000", "--change-section-vma=.linux=0x40000"]
    flags = ["--set-section-flags=.linux=data,readonly,alloc,load"]
    for command in (
        ["as", "-o", "stub.o", "stub.s"],
        ["ld", "-m", "i386pep", "--subsystem=10", "-o", "stub.efi", "stub.o"],
        ["objcopy", *add, *flags, *move, "stub.efi", "uki.efi"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        if "i386pep" in command and done.returncode:
            pytest.skip("this ld cannot make an EFI program")
        assert done.returncode == 0, done.stderr
    kernel = find(tmp_path / "uki.efi")
    assert kernel.kind is Kind.BZIMAGE
    assert kernel.path.read_bytes() == bzimage(paragraphs=1001)


@pytest.mark.parametrize(("form", "kind"), [("gz", b"gzip"), ("zst", b"zstd")])
def test_a_zboot_image_is_known_for_the_architecture_in_it(
    tmp_path: Path, form: str, kind: bytes
) -> None:
    path = tmp_path / "vmlinuz.efi"
    path.write_bytes(zboot(COMPRESS[form](VMLINUX), kind))
    assert find(path).kind is Kind.VMLINUX
    path.write_bytes(zboot(COMPRESS[form](ARM64), kind))
    assert find(path).kind is Kind.IMAGE


@pytest.mark.parametrize(("form", "kind", "size"), [("gz", "gzip", 0), ("zst", "zstd", 4)])
def test_it_is_so_with_a_zboot_image_that_binutils_made(
    tmp_path: Path, form: str, kind: str, size: int
) -> None:
    """As the kernel's build does: the linker puts place and size of the payload in the header.

    Behind zstd's payload stands the size of what is in it, which the header's size leaves out.
    """
    needs_binutils()
    end = struct.pack("<I", len(ARM64)) if size else b""
    (tmp_path / "vmlinuz").write_bytes(COMPRESS[form](ARM64) + end)
    (tmp_path / "zboot.s").write_text(ZBOOT.format(kind=kind, size=size))
    (tmp_path / "zboot.lds").write_text(ZBOOT_LAYOUT)
    for command in (
        "as -o zboot.o zboot.s",
        "ld -T zboot.lds -o zboot.elf zboot.o",
        "objcopy -O binary zboot.elf vmlinuz.efi",
    ):
        words = command.split()
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    kernel = find(tmp_path / "vmlinuz.efi")
    assert (kernel.kind, kernel.release) == (Kind.IMAGE, "7.9.1-test")
    assert kernel.path.read_bytes() == ARM64


def test_what_is_wrapped_may_be_wrapped_again(tmp_path: Path) -> None:
    path = tmp_path / "linux.efi.gz"
    path.write_bytes(COMPRESS["gz"](pe({".linux": COMPRESS["xz"](VMLINUX)})))
    assert find(path).kind is Kind.VMLINUX


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (COMPRESS["xz"](RISCV), "a kernel for riscv, which there are no guests for"),
        (COMPRESS["gz"](b"text"), "not a kernel image"),
        (COMPRESS["gz"](bzimage())[:-9], "gzip: "),
        (COMPRESS["xz"](bzimage())[:-9], "xz: "),
        (COMPRESS["bz2"](bzimage())[:-9], "bzip2: "),
        (COMPRESS["lzma"](VMLINUX)[:-9], "lzma: "),
        (b"\x28\xb5\x2f\xfd", "(zstd: |needs the program zstd)"),
        (b"\x02\x21\x4c\x18\1\1\1\1", "(lz4: |needs the program lz4)"),
        (pe({".linux": RISCV}, 0x5064), "a kernel for riscv"),
        (pe({".linux": bzimage()})[:-400], "a truncated unified kernel image: "),
        (pe({".cmdline": b"quiet"}), "a unified kernel image without a kernel: .* .linux"),
        (pe({".text": b"grub"}), "an EFI program, not a kernel"),
        (pe({})[:0x90], "a truncated EFI program"),
        (b"MZ".ljust(999, b"\0"), "a program for DOS, not a kernel"),
        (b"MZ", "a truncated EFI program"),
        (zboot(COMPRESS["gz"](RISCV), b"gzip")[:-20], "a truncated EFI kernel .zboot."),
    ],
)
def test_what_cannot_boot_is_named_for_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: bytes, words: str
) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(data)
    with pytest.raises(Problem, match=rf"^{path}: {words}.*\nhint: "):
        find(path)
    assert main.main(["run", "--kernel", str(path), "--dry-run"]) == Exit.HOST
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_modules_lie_where_the_wrapped_image_does(tmp_path: Path) -> None:
    place = tmp_path / "lib/modules/7.9.1-test"
    (place / "kernel").mkdir(parents=True)
    (place / "vmlinuz").write_bytes(COMPRESS["gz"](bzimage()))
    assert find(place / "vmlinuz").modules == place
