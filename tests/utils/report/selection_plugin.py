# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: choose cases by the rule they check or the fix they need (--rule, --fixed-by)."""

from __future__ import annotations

import pytest

from tests.utils.report.known import concerns, known
from tests.utils.report.outcomes import markers_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("open_tree_ns", "OPEN_TREE_NAMESPACE cases")
    group.addoption(
        "--rule",
        action="append",
        default=[],
        metavar="ID",
        help="run only the cases that check this rule of RULES.md; may be given several times",
    )
    group.addoption(
        "--fixed-by",
        action="append",
        default=[],
        metavar="COMMIT",
        help="run only the cases that fail without this kernel commit (its first digits, or words"
        " of its subject); may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse rules and fixes that there are not.

    :raises pytest.UsageError: there is no such rule or fix.
    """
    rules, fixes = config.getoption("rule"), config.getoption("fixed_by")
    if (rules or fixes) and (wrong := known(config.rootpath).missing(rules, fixes)):
        raise pytest.UsageError(wrong)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the cases that were asked for."""
    rules, fixes = config.getoption("rule"), config.getoption("fixed_by")
    if not (rules or fixes):
        return
    chosen: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (chosen if concerns(markers_of(item), rules, fixes) else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = chosen
