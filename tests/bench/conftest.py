# SPDX-License-Identifier: GPL-2.0-only
"""What the cases of the benchmark share: each runs isolated, as the kernel cases do."""

from __future__ import annotations

import pytest

from tests.utils.probes import room


def pytest_itemcollected(item: pytest.Item) -> None:
    """Every case in this folder makes mount namespaces."""
    item.add_marker(pytest.mark.isolated)
    item.add_marker(pytest.mark.needs("mount namespace"), append=False)
    item.add_marker(pytest.mark.room(**room.USUAL))
