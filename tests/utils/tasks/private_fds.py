# SPDX-License-Identifier: GPL-2.0-only
"""Descriptors of the pytest process that are of no use to a case, or could be harmed by it."""

from __future__ import annotations

import os

_private: set[int] = set()


def keep_private(fd: int) -> None:
    """Have *fd* closed in each process of cases that is forked from now on."""
    _private.add(fd)


def close_private(fd: int) -> None:
    """Close *fd*, and forget it."""
    _private.discard(fd)
    os.close(fd)


def close_all_private() -> None:
    """In a process of cases: close them all."""
    while _private:
        os.close(_private.pop())
