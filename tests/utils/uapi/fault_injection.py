# SPDX-License-Identifier: GPL-2.0-only
"""Fault injection: the N-th allocation of one call fails, N = 1, 2, ... until none is left.

Needs a kernel with CONFIG_FAULT_INJECTION_DEBUG_FS and CONFIG_FAILSLAB.
Source: Documentation/fault-injection/fault-injection.rst (/proc/thread-self/fail-nth).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tests.utils.expect import SUCCESS, errno_name

_FAILSLAB = Path("/sys/kernel/debug/failslab")
#: Faults in allocations that may sleep too; nothing in the kernel's log for each.
_SETTINGS = {"ignore-gfp-wait": "N", "verbose": "0"}
_FAIL_NTH = "/proc/thread-self/fail-nth"


T = TypeVar("T")


def open_fail_nth() -> int:
    """Return the descriptor that the calling thread's faults are set by, for :func:`each_fault`."""
    return os.open(_FAIL_NTH, os.O_RDWR | os.O_CLOEXEC)


def ask_for_faults() -> None:
    """Ask, and change nothing, whether faults can be injected.

    :raises OSError: the kernel cannot, or the caller may not.
    """
    for name in _SETTINGS:
        os.close(os.open(_FAILSLAB / name, os.O_RDWR | os.O_CLOEXEC))
    os.close(open_fail_nth())


@contextmanager
def faults_possible() -> Iterator[None]:
    """Have faults possible during the block.

    The settings are the whole machine's, and stay when the caller is killed: only for a kernel that
    is expendable (see tests.utils.probes.plugin).

    :raises OSError: the kernel cannot, or the caller may not.
    """
    before = {name: (_FAILSLAB / name).read_text() for name in _SETTINGS}
    os.close(open_fail_nth())
    try:
        for name, value in _SETTINGS.items():
            (_FAILSLAB / name).write_text(value)
        yield
    finally:
        for name, value in before.items():
            with suppress(OSError):
                (_FAILSLAB / name).write_text(value)


@dataclass(frozen=True, slots=True)
class Attempt(Generic[T]):
    """One call with one failing allocation."""

    #: Which allocation failed; 0 for the last attempt, in which none did.
    fault: int
    #: How the call ended: "success" or the name of the errno.
    end: str
    result: T | None


def each_fault(fail_nth: int, call: Callable[[], T], most: int = 5000) -> Iterator[Attempt[T]]:
    """Make *call* with its first allocation failing, its second, and so on, until none is left."""
    for number in range(1, most):
        text, result, end = str(number).encode(), None, SUCCESS
        os.pwrite(fail_nth, text, 0)
        try:
            result = call()
        except OSError as error:
            end = errno_name(error)
        # What is left to count is what was not reached.
        missed = os.pread(fail_nth, 16, 0).strip() != b"0"
        os.pwrite(fail_nth, b"0", 0)
        yield Attempt(0 if missed else number, end, result)
        if missed:
            return
    raise AssertionError(f"still allocating after {most} faults")
