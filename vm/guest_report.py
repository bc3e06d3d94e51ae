# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: a pytest plugin that sends what happens, case by case, to the host.

A case is announced, and the line drained, before it runs: should the kernel die in it, the host
knows in which. Only reports are used, so that it does not matter whether a case ran in this
process or in a child.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from tests.utils import header
from tests.utils.case_reporter import CaseReporter
from tests.utils.outcomes import markers_of
from tests.utils.results import Case
from vm.guest_channel import Channel


class Reporter(CaseReporter):
    """The plugin: one message per event of the session."""

    def __init__(self, channel: Channel, share: str) -> None:
        """*share* is "2/3" for every third case from the second on."""
        super().__init__()
        self._channel = channel
        self._first, self._step = (int(number) for number in share.split("/"))
        self._markers: dict[str, dict[str, list[object]]] = {}

    def pytest_sessionstart(self) -> None:
        """Tell what pytest knows of the machine."""
        self._channel.send("facts", facts=asdict(header.facts()))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave this guest's share; the others are not deselected, they run elsewhere."""
        items[:] = items[self._first - 1 :: self._step]
        self._markers = {item.nodeid: markers_of(item) for item in items}

    def planned(self, ids: Sequence[str]) -> None:
        """Tell which cases will run."""
        self._channel.send("collected", ids=ids)

    def started(self, nodeid: str) -> None:
        """Tell that a case begins, and see the message off."""
        # With the markers, for the case the kernel does not survive.
        self._channel.send("start", drain=True, id=nodeid, markers=self._markers.pop(nodeid, {}))

    def ended(self, case: Case) -> None:
        """Tell how a case ended."""
        sent = asdict(replace(case, duration=round(case.duration, 4)))
        if not case.markers:  # they were sent when it began
            del sent["markers"]
        self._channel.send("result", case=sent)

    def finished(self, lost: str) -> None:
        """Tell why pytest stopped before its end, if it did."""
        self._channel.send("finished", lost=lost)


def run(arguments: list[str], channel: Channel, share: str = "1/1") -> int:
    """Run pytest in this process with the plugin; its exit status."""
    plugins: list[Any] = [Reporter(channel, share)]
    return int(pytest.main(arguments, plugins=plugins))
