# SPDX-License-Identifier: GPL-2.0-only
"""Fixtures of the kernel cases, and what all of them share: isolation and the flag itself."""

from __future__ import annotations

import pytest

from tests.open_tree_ns.caller import Caller
from tests.utils.diagnosis import compared
from tests.utils.expect import explain
from tests.utils.mounts.root import enter_unlocked_namespace
from tests.utils.probes import room
from tests.utils.probes.plugin import EXPENDABLE, needs_of


def pytest_itemcollected(item: pytest.Item) -> None:
    """Isolate every case in this folder, and run it only where the kernel has the flag."""
    item.add_marker(pytest.mark.isolated)
    # Asked for first: what else a case needs is asked for with their help.
    item.add_marker(pytest.mark.needs("OPEN_TREE_NAMESPACE", "mount namespace"), append=False)
    item.add_marker(pytest.mark.room(**room.USUAL))
    if {"user namespace", "nested user namespace"}.intersection(needs_of(item)):
        item.add_marker(pytest.mark.room(user_namespaces=room.USER_NAMESPACES))
    if "unlocked" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.needs("unlocked root"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put cases for an expendable kernel last: one without their fix goes down in them, and takes
    nothing along."""
    items.sort(key=lambda item: EXPENDABLE in needs_of(item))


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Name the calls that did not end as expected, where outcomes are compared."""
    if op != "==":
        return None
    compared(left, right)
    return explain(left, right)


@pytest.fixture(
    params=[
        pytest.param(Caller.OWNER, id="owner"),
        pytest.param(Caller.FOREIGN, id="foreign", marks=pytest.mark.needs("user namespace")),
    ]
)
def caller(request: pytest.FixtureRequest) -> Caller:
    """Run the case as each kind of caller."""
    kind: Caller = request.param
    return kind


@pytest.fixture
def unlocked() -> None:
    """Start the case in a mount namespace whose root is not locked.

    For cases that show what an owner may do with the root of a copy.
    """
    enter_unlocked_namespace()
