# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: cases that search for as long as they are given, ``--stress SECONDS`` each.

They are marked ``stress`` and left out without the option. Each goes on from seed to seed; a
failure says which seed it was, and ``--stress-seed`` begins there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest

#: Over the budget: for the last round to end, and to make what was found small. In seconds.
_EXTRA = 300
_PROPERTY = "stress"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("open_tree_ns", "OPEN_TREE_NAMESPACE cases")
    group.addoption(
        "--stress",
        type=float,
        metavar="SECONDS",
        help="run the cases marked stress too, each for so long",
    )
    group.addoption(
        "--stress-seed",
        type=int,
        metavar="N",
        help="the first seed of each (default: a new one)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line(
        "markers", "stress: searches for as long as --stress says; left out without it"
    )
    budget = config.getoption("stress")
    if budget is not None and budget <= 0:
        raise pytest.UsageError("--stress takes a number of seconds above 0")
    config.pluginmanager.register(_Told(), "stress-told")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the marked cases out, or give them their time."""
    budget = config.getoption("stress")
    marked = [item for item in items if item.get_closest_marker("stress")]
    if budget is None:
        if marked and not config.option.collectonly:
            items[:] = [item for item in items if item not in marked]
            config.hook.pytest_deselected(items=marked)
        return
    for item in marked:
        item.add_marker(pytest.mark.timeout(budget + _EXTRA))


class Search:
    """The time a case has, in seeds, and what it has done with it."""

    def __init__(self, seconds: float, first: int) -> None:
        self._seconds, self._first = seconds, first
        self.done = 0
        self.started = time.monotonic()
        self._found: tuple[int, float] | None = None

    def seeds(self) -> Iterator[int]:
        """Yield seeds, one at least, until the time is over."""
        seed = self._first
        while seed == self._first or not self.over():
            print(f"seed {seed}", flush=True)
            yield seed
            seed += 1

    def over(self) -> bool:
        """Return whether the time is over."""
        return time.monotonic() - self.started >= self._seconds

    def found(self) -> None:
        """Something has been found: what is done from now on makes it small."""
        self._found = self._found or self._so_far()

    def told(self) -> str:
        """Return how far it came, up to what it found."""
        done, seconds = self._found or self._so_far()
        return f"{done} in {seconds:.0f} s, {done / seconds:.1f} a second, from seed {self._first}"

    def _so_far(self) -> tuple[int, float]:
        return self.done, time.monotonic() - self.started


@pytest.fixture
def search(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Iterator[Search]:
    """The time a case marked ``stress`` has. It counts what it tries in ``search.done``."""
    first = request.config.getoption("stress_seed")
    if first is None:
        first = int.from_bytes(os.urandom(3), "little")
    search = Search(request.config.getoption("stress"), first)
    yield search
    record_property(_PROPERTY, search.told())


class _Told:
    """What the searches have told of themselves."""

    def __init__(self) -> None:
        self._found: dict[str, object] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how far a search came."""
        if report.when == "teardown" or report.failed:
            told = (value for name, value in report.user_properties if name == _PROPERTY)
            self._found.update((report.nodeid, value) for value in told)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say how far each search came."""
        if self._found:
            terminalreporter.section("stress")
            for nodeid, value in self._found.items():
                terminalreporter.line(f"{nodeid}: {value}")
