# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel in QEMU is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.backend.base import Machine, Qemu
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
    qemu = Qemu(Path("/usr/bin/qemu"), accelerator=accelerator)
    command = qemu.command(kernel, Path("/i"), "/r", machine, Path("/s"))
    words = command.arguments[command.arguments.index("-append") + 1].split()
    assert SPARING & set(words) == told
    # What the user says comes last, where the kernel lets the last one win.
    assert words[-1] == "highres=on"
