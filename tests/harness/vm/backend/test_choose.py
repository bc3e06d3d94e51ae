# SPDX-License-Identifier: GPL-2.0-only
"""Backends: what a kernel in QEMU is told, and where guests can be had at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, elf
from vm.arch import X86_64
from vm.backend.base import Boot, Machine
from vm.backend.qemu import Qemu
from vm.commands import main
from vm.errors import Exit
from vm.kernel.image import Kernel, Kind

SPARING = {"cgroup_disable=memory", "damon_stat.enabled=0", "init_on_alloc=0", "highres=off"}


@pytest.mark.parametrize(
    ("accelerator", "measured", "told"),
    [("tcg", False, SPARING), ("tcg", True, set()), ("kvm", False, set())],
)
def test_only_an_emulated_kernel_is_told_to_be_sparing_and_none_that_is_measured(
    accelerator: str, measured: bool, told: set[str]
) -> None:
    kernel = Kernel(Path("/k/vmlinux"), Kind.VMLINUX, "7.9", "k")
    machine = Machine(append=("highres=on",), measured=measured)
    qemu = Qemu(Path("/usr/bin/qemu"), X86_64, accelerator=accelerator)
    command = qemu.command(Boot(kernel, Path("/i"), "/r", machine, Path("/s")))
    words = command.arguments[command.arguments.index("-append") + 1].split()
    assert SPARING & set(words) == told
    # What the user says comes last, where the kernel lets the last one win.
    assert words[-1] == "highres=on"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--qemu-args", "-s"), "--qemu-args: User-Mode Linux is run without QEMU"),
        (("--cpus", "4"), "--cpus 4: User-Mode Linux has one processor"),
    ],
)
def test_what_user_mode_linux_cannot_have_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    (tmp_path / "linux").write_bytes(elf(0x60000000, banner=BANNER))
    for verb in ("run", "bench"):
        output = ["--output", str(tmp_path / "out")]
        status = main.main([verb, "--kernel", str(tmp_path / "linux"), *output, *words])
        assert status == Exit.USAGE
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"vm: {tmp_path / 'linux'} is a User-Mode Linux kernel: {line}"
        assert second.startswith("hint: ")
