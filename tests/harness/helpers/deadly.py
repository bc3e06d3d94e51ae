# SPDX-License-Identifier: GPL-2.0-only
"""Cases that do harm to the kernel they run on: what tests/harness/vm/guests has a guest run.

pytest does not come upon them by itself, and outside of a guest they are skipped.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.isolated


@pytest.fixture(autouse=True)
def _in_a_guest() -> None:
    if "vm.end=" not in Path("/proc/cmdline").read_text():
        pytest.skip("only for a guest that is to die")


def test_before() -> None:
    """It has passed before the others do harm."""


def test_panic() -> None:
    """The kernel panics."""
    Path("/proc/sysrq-trigger").write_text("c")


@pytest.mark.timeout(0.5)
def test_hang() -> None:
    """It does not end."""
    signal.pause()


def test_wait() -> None:
    """It does not end either, and says that it has begun."""
    print("waiting", flush=True)
    signal.pause()


def test_memory() -> None:
    """It takes all memory there is."""
    taken = []
    while True:
        taken.append(b"x" * (16 << 20))


def test_flood() -> None:
    """It fills the console."""
    line = b"flood " * 20 + b"\n"
    with open("/dev/console", "wb", buffering=0) as console:
        for _ in range((17 << 20) // len(line)):
            console.write(line)


def test_spam() -> None:
    """It fills what goes to the host beside pytest's messages."""
    with open("/dev/ttyS1", "wb", buffering=0) as line:
        line.write(b"no message\n" * 1000)


def test_after() -> None:
    """It passes after the others."""
    assert time.time() > 0
    assert os.getpid() > 0
