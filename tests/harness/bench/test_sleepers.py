# SPDX-License-Identifier: GPL-2.0-only
"""Tasks that sleep while the benchmark measures."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import sleepers
from bench.sleepers import sleeping
from bench.workers import WorkersFailed
from tests.utils.mounts.settle import settled


def tasks() -> list[str]:
    """The states of the tasks of the caller's children, of which each may have many."""
    found = []
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
        for task in Path(f"/proc/{child}/task").iterdir():
            found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


@pytest.mark.parametrize("count", [0, 1, 300])
def test_so_many_sleep(count: int) -> None:
    """Each is a task of the kernel's, none runs, and none is left at the end of the block."""
    assert tasks() == []
    with sleeping(count):
        assert settled(tasks, ["S"] * count) == ["S"] * count
    assert tasks() == []


def test_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit is named, with where to look; nothing is left."""

    def bound(_name: str, _function: str) -> Callable[..., int]:
        real, made = ctypes.CDLL(None).clone, 0

        def clone(*arguments: object) -> int:
            nonlocal made
            made += 1
            if made == 5:
                raise OSError(errno.EAGAIN, "clone: Resource temporarily unavailable")
            return int(real(*arguments))

        return clone

    monkeypatch.setattr(sleepers, "bound", bound)
    error = r"clone: Resource temporarily unavailable\nhint: see sysctl kernel\.threads-max"
    with pytest.raises(WorkersFailed, match=error), sleeping(10):
        pass
    assert tasks() == []


def test_no_memory_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel kills for want of memory is told with what to do about it."""
    monkeypatch.setattr(sleepers, "bound", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    error = r"the process of 10 sleeping tasks has died.*\nhint: fewer --tasks, or more memory"
    with pytest.raises(WorkersFailed, match=error), sleeping(10):
        pass
    assert tasks() == []
