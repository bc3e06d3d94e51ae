# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log and taint, as they are read."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from tests.harness.helpers.kernel import add
from tests.utils.watch import kernel_log
from tests.utils.watch.kernel_log import KernelLog, Taint, parse


def test_something_else_in_the_logs_place_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kernel_log, "LOG", Path("/dev/null"))
    with pytest.raises(OSError, match="not the kernel's log"):
        KernelLog()


def test_a_gap_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = tmp_path / "kmsg"
    kernel.touch()
    monkeypatch.setattr(kernel_log, "LOG", kernel)
    log = KernelLog()
    add(kernel, 10, "ten")
    assert [record.sequence for record in log.read()] == [10]
    add(kernel, 15, "fifteen")
    real, pending = os.read, [BrokenPipeError(errno.EPIPE, "Broken pipe")]

    def broken_once(fd: int, count: int) -> bytes:
        if pending:
            raise pending.pop()
        return real(fd, count)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", broken_once)
        records = log.read()
    assert [record.text for record in records] == ["fifteen"]
    assert log.overwritten == 4
    log.close()


def test_a_record_is_read_as_the_kernel_writes_it() -> None:
    data = (
        b"4,349,11045882532,-,caller=T40;a\\x0ab \\xc3\\xa9\n SUBSYSTEM=pci\n DEVICE=+pci:0\n"
        b"12,350,11045882540,c;\n"
    )
    assert [str(record) for record in parse(data)] == [
        "[11045.882532] a",
        "[11045.882532] b é",
        "[11045.882540] ",
    ]


def test_what_programs_write_is_not_the_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd, udev and their like write there, under facilities of their own."""
    kernel = tmp_path / "kmsg"
    kernel.touch()
    monkeypatch.setattr(kernel_log, "LOG", kernel)
    log = KernelLog()
    add(kernel, 1, "WARNING: said by a program", facility=1)
    add(kernel, 2, "WARNING: said by a service", facility=3)
    add(kernel, 3, "said by the kernel")
    assert [record.text for record in log.read()] == ["said by the kernel"]
    assert log.overwritten == 0
    log.close()


def test_the_log_of_this_machine_can_be_read() -> None:
    try:
        log, taint = KernelLog(), Taint()
    except OSError as error:
        pytest.skip(f"not here: {error}")
    os.lseek(log.fd, 0, os.SEEK_SET)
    assert stat.S_ISCHR(os.fstat(log.fd).st_mode)
    numbers = [record.sequence for record in log._available()]
    assert numbers == sorted(numbers)
    assert taint.new() == 0
    log.close()
    taint.close()
