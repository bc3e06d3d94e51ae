# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: a pytest plugin that sends what happens, case by case, to the host.

A case is announced, and the line drained, before it runs: should the kernel die in it, the host
knows in which. Only reports are used, so that it does not matter whether a case ran in this
process or in a child.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import pytest

from tests.utils.report import header
from tests.utils.report.case import Case
from tests.utils.report.case_reporter import CaseReporter
from tests.utils.report.outcomes import markers_of
from vm.guest.channel import Channel
from vm.guest.protocol import MARK, Kind

if TYPE_CHECKING:
    from tests.utils.report.waiver_plugin import Waiving  # pytest imports it, and must be the first


def dealt_to(place: int, parts: int) -> int:
    """Return which of so many parts, from 1, the case at *place* belongs to.

    They are dealt out back and forth: 1, 2, 2, 1 and so on. No case is long and those of a kind
    stand together, but of a pair the second may always be the longer one: owner, foreign.
    """
    turn, step = divmod(place, parts)
    return step + 1 if turn % 2 == 0 else parts - step


class Reporter(CaseReporter):
    """The plugin: one message per event of the session."""

    def __init__(self, channel: Channel, share: str, only: Sequence[str]) -> None:
        """*share* is "2/3" for the second of three parts; of it, *only* these cases if any."""
        super().__init__()
        self._channel = channel
        self._number, self._parts = (int(number) for number in share.split("/"))
        self._only = frozenset(only)
        #: Whether other guests have the rest of the cases.
        self._in_part = self._parts > 1 or bool(only)
        self._markers: dict[str, dict[str, list[object]]] = {}
        #: Where each case stands among those of all guests.
        self._places: dict[str, int] = {}
        self._waiving: Waiving | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Tell what pytest knows of the machine."""
        self._waiving = session.config.pluginmanager.get_plugin("waiving")
        if self._waiving is not None:
            self._waiving.in_part = self._in_part
        if session.config.pluginmanager.has_plugin("digest"):
            session.config.pluginmanager.unregister(name="digest")  # the host has all the cases
        self._channel.send(Kind.FACTS, facts=asdict(header.facts()))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Leave this guest's share; the others are not deselected, they run elsewhere."""
        self._places = {item.nodeid: place for place, item in enumerate(items)}
        items[:] = [
            item
            for place, item in enumerate(items)
            if dealt_to(place, self._parts) == self._number
            and (not self._only or item.nodeid in self._only)
        ]
        self._markers = {item.nodeid: markers_of(item) for item in items}

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Iterator[None]:
        """Part what pytest prints before the cases, along with them, and after them."""
        self._mark(session.config)
        try:
            return (yield)
        finally:
            self._mark(session.config)

    def _mark(self, config: pytest.Config) -> None:
        if config.pluginmanager.has_plugin("terminalreporter"):
            config.get_terminal_writer().write(MARK, flush=True)

    def planned(self, ids: Sequence[str]) -> None:
        """Tell which cases will run."""
        self._channel.send(
            Kind.COLLECTED, ids=ids, places=[self._places.get(name, -1) for name in ids]
        )

    def started(self, nodeid: str) -> None:
        """Tell that a case begins, and see the message off."""
        # With the markers, for the case the kernel does not survive.
        self._channel.send(Kind.START, drain=True, id=nodeid, markers=self._markers.pop(nodeid, {}))

    def ended(self, case: Case) -> None:
        """Tell how a case ended."""
        # What it does not have is left out: each byte has its price under emulation.
        sent = {field.name: getattr(case, field.name) for field in fields(case)}
        sent["duration"] = round(case.duration, 4)
        self._channel.send(Kind.RESULT, case={name: value for name, value in sent.items() if value})

    def finished(self, lost: str) -> None:
        """Tell why pytest stopped before its end, if it did."""
        uses = self._waiving.uses() if self._waiving is not None else []
        self._channel.send(Kind.FINISHED, lost=lost, waivers=[asdict(use) for use in uses])


def run(
    arguments: list[str], channel: Channel, share: str = "1/1", only: Sequence[str] = ()
) -> int:
    """Run pytest in this process with the plugin; its exit status."""
    plugins: list[Any] = [Reporter(channel, share, only)]
    return int(pytest.main(arguments, plugins=plugins))
