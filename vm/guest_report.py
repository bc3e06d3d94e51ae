# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: a pytest plugin that sends what happens, case by case, to the host.

A case is announced, and the line drained, before it runs: should the kernel die in it, the host
knows in which. Only reports are used, so that it does not matter whether a case ran in this
process or in a child.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.utils.outcomes import failure_text, outcome_of, sections_of
from vm.guest_channel import Channel

#: Markers are sent as they are, these excepted: they steer pytest and name no rule.
_MECHANICS = frozenset(["parametrize", "usefixtures", "filterwarnings", "skipif", "timeout"])


def _plain(value: object) -> object:
    """*value* when JSON can carry it, else its text."""
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def markers_of(item: pytest.Item) -> dict[str, list[object]]:
    """The markers of a case: name -> values, those of repeated markers joined."""
    found: dict[str, list[object]] = {}
    for marker in item.iter_markers():
        if marker.name not in _MECHANICS:
            values = [*marker.args, *marker.kwargs.values()]
            found.setdefault(marker.name, []).extend(_plain(value) for value in values)
    return found


class Reporter:
    """The plugin: one message per event of the session."""

    def __init__(self, channel: Channel, share: str) -> None:
        """*share* is "2/3" for every third case from the second on."""
        self._channel = channel
        self._first, self._step = (int(number) for number in share.split("/"))
        self._reports: dict[str, list[pytest.TestReport]] = {}
        self._markers: dict[str, dict[str, list[object]]] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave this guest's share; the others are not deselected, they run elsewhere."""
        items[:] = items[self._first - 1 :: self._step]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Tell which cases will run."""
        self._markers = {item.nodeid: markers_of(item) for item in session.items}
        self._channel.send("collected", ids=list(self._markers))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Tell of a module that could not be collected."""
        if report.failed:
            self._channel.send("uncollected", id=report.nodeid, text=report.longreprtext)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Tell that a case begins, and see the message off."""
        self._reports[nodeid] = []
        # With the markers, for the case the kernel does not survive.
        self._channel.send("start", drain=True, id=nodeid, markers=self._markers.get(nodeid, {}))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its case has ended."""
        self._reports.setdefault(report.nodeid, []).append(report)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Tell how the case ended."""
        reports = self._reports.pop(nodeid, [])
        outcome, reason = outcome_of(reports)
        self._channel.send(
            "result",
            id=nodeid,
            outcome=outcome,
            reason=reason,
            duration=round(sum(report.duration for report in reports), 4),
            text=failure_text(reports),
            sections=sections_of(reports),
        )


def run(arguments: list[str], channel: Channel, share: str = "1/1") -> int:
    """Run pytest in this process with the plugin; its exit status."""
    plugins: list[Any] = [Reporter(channel, share)]
    return int(pytest.main(arguments, plugins=plugins))
