# SPDX-License-Identifier: GPL-2.0-only
"""Real launchers for real guests, which leave nothing behind.

A kernel boots for each test, so they are run where one is named: by `python3 -m vm check`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.helpers.real_guest import RealLauncher, lacking
from vm.arch import UM
from vm.kernel.source import find


@pytest.fixture(scope="module", autouse=True)
def _a_machine_for_guests() -> None:
    if reason := lacking():
        pytest.skip(reason)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[RealLauncher]:
    """A launcher that must leave nothing behind."""
    found = RealLauncher(tmp_path)
    yield found
    found.assert_nothing_is_left()


@pytest.fixture
def uml_launcher(launcher: RealLauncher) -> RealLauncher:
    """A launcher whose guests are User-Mode Linux."""
    if find(launcher.kernel, UM, None).arch is not UM:
        pytest.skip("only User-Mode Linux is such a program")
    return launcher
