# SPDX-License-Identifier: GPL-2.0-only
"""What a case expects of a call, said so that the failure names the call and both outcomes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def refused(number: int) -> Iterator[None]:
    """The block makes one call, which the kernel must refuse with exactly this errno."""
    __tracebackhide__ = True
    wanted = errno.errorcode[number]
    try:
        yield
    except OSError as error:
        if error.errno != number:
            got = errno.errorcode.get(error.errno or 0, str(error.errno))
            pytest.fail(f"must be refused with {wanted}, the kernel said {got}: {error}")
    else:
        pytest.fail(f"must be refused with {wanted}, but the call succeeded")


def outcome(call: Callable[[], object]) -> str:
    """How a call ends, for tables of outcomes: "allowed", or the name of the errno."""
    try:
        call()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error.errno))
    return "allowed"


def answer(question: Callable[[], object]) -> object:
    """What *question* gives, or the name of the errno it is refused with."""
    try:
        return question()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
