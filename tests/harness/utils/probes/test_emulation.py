# SPDX-License-Identifier: GPL-2.0-only
"""Programs of another processor's are told by the emulator that runs them."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.images import elf
from tests.utils.probes import emulation, flag


def process(folder: Path, name: str, data: bytes) -> Path:
    """A folder as /proc has it, of a process that runs the program *name*."""
    (folder / name).write_bytes(data)
    (folder / "exe").symlink_to(folder / name)
    return folder


def test_a_program_that_the_kernel_runs_for_one_of_another_processor_is_named(
    tmp_path: Path,
) -> None:
    python = tmp_path / "python3"
    python.write_bytes(elf(0x400000, machine=183))
    folder = process(tmp_path, "qemu-aarch64-static", elf(0x400000))
    assert emulation.found(folder, python) == "qemu-aarch64-static"


@pytest.mark.parametrize("data", [elf(0x400000), b"#!/bin/sh\n", b""])
def test_another_program_of_the_same_processor_is_none(tmp_path: Path, data: bytes) -> None:
    python = tmp_path / "python3"
    python.write_bytes(elf(0x400000))
    assert emulation.found(process(tmp_path, "ld.so", data), python) == ""
    assert emulation.found(tmp_path / "gone", python) == ""


def test_this_process_is_looked_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ours = emulation._machine(Path(sys.executable))
    if not ours or emulation.emulator():
        pytest.skip("this Python is no program of this machine's")
    other = tmp_path / "python3"
    other.write_bytes(elf(0x400000, machine=int.from_bytes(ours, sys.byteorder) + 1))
    monkeypatch.setattr(sys, "executable", str(other))
    ask = emulation.emulator.__wrapped__
    assert ask() == os.path.basename(os.readlink("/proc/self/exe"))


def test_a_call_that_is_not_known_is_then_no_word_of_the_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(emulation, "emulator", lambda: "qemu-s390x")
    for number in (errno.ENOSYS, errno.EINVAL):
        monkeypatch.setattr(flag, "_errnos", lambda number=number: (number, 0))
        found = flag.probe.__wrapped__()
        assert found.support is flag.Support.UNCLEAR
        assert "qemu-s390x emulates another processor here" in found.reason
