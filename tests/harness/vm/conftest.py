# SPDX-License-Identifier: GPL-2.0-only
"""Launchers to run as programs, with programs in place of QEMU and make that are scripts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.helpers.building import Workshop, make_workshop
from tests.harness.helpers.launcher import Launcher, make_launcher


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the module: the base image takes a second to build."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def launcher(tmp_path: Path, cache: Path) -> Launcher:
    """A launcher with a script in place of QEMU."""
    return make_launcher(tmp_path, cache)


@pytest.fixture
def workshop(tmp_path: Path, cache: Path) -> Workshop:
    """A launcher with a tree to build, and a script in place of make."""
    return make_workshop(tmp_path, cache)
