# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures for tests that look at the mount namespaces of the machine."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from tests.harness.helpers.suite import ROOT
from tests.utils.watch.new_namespaces import Namespaces


@pytest.fixture
def alone() -> Iterator[None]:
    """Have no two of these tests at once: a blank namespace would be charged to each."""
    fd = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    yield
    os.close(fd)


@pytest.fixture
def sight() -> None:
    """Skip where the caller may not see the machine's namespaces."""
    try:
        Namespaces().close()
    except OSError as error:
        pytest.skip(f"the machine's mount namespaces cannot be listed: {error}")
