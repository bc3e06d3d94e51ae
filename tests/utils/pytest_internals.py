# SPDX-License-Identifier: GPL-2.0-only
"""What this project uses of pytest and does not find in pytest's public interface.

A new release of pytest that changes one of these breaks this module alone, and the test of the same
name in tests/harness/utils/test_pytest_internals.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO

import pytest
from _pytest.runner import CallInfo, call_and_report, check_interactive_exception
from _pytest.skipping import xfailed_key

__all__ = ["CallInfo", "call_and_report", "check_interactive_exception"]


def enter_collectors(item: pytest.Item) -> None:
    """Take the collectors around *item* for set up, and forget what other items have set up."""
    session: Any = item.session
    stack = session._setupstate.stack
    stack.clear()
    stack.update((node, ([], None)) for node in item.listchain()[:-1])


def tear_down(session: pytest.Session, nextitem: pytest.Item | None) -> None:
    """Tear down what is set up and *nextitem* does not need."""
    state: Any = session
    state._setupstate.teardown_exact(nextitem)


def renew_request(item: pytest.Item) -> None:
    """Make an *item* that has run ready to run again."""
    function: Any = item
    if getattr(function, "_request", None) is False:
        function._initrequest()


def fixtures_of(item: pytest.Item) -> Iterator[tuple[str, str, bool]]:
    """Yield the fixtures of *item*: name, scope, and whether it is one of pytest's own."""
    info: Any = getattr(item, "_fixtureinfo", None)
    for name, (*_, fixture) in info.name2fixturedefs.items() if info is not None else ():
        # Those made for setup_module() and the like have the module for their base.
        own = fixture.func.__module__.startswith(("_pytest.", "xdist.")) and not fixture.baseid
        yield name, str(fixture.scope), own


def evaluate_marks(item: pytest.Item) -> None:
    """Skip *item* if a mark says so; note it if one expects a failure."""
    skipping: Any = item.config.pluginmanager.get_plugin("skipping")
    if skipping is not None:
        skipping.pytest_runtest_setup(item)


def expect_no_failure(item: pytest.Item) -> None:
    """Forget that a mark expects *item* to fail."""
    if xfailed_key in item.stash:
        del item.stash[xfailed_key]


def locate_at_item(skipped: BaseException) -> None:
    """Have a skip reported at the item, not where it was raised."""
    skipped._use_item_location = True  # type: ignore[attr-defined]


def locate_failure(report: pytest.TestReport, item: pytest.Item, message: str) -> None:
    """Have *report*, of a failure that no line of Python raised, point at *item*."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        path, line, _ = item.reportinfo()
        crash.path, crash.lineno, crash.message = os.fspath(path), (line or 0) + 1, message


def count_failed_subtest(config: pytest.Config, report: pytest.TestReport) -> None:
    """Count a failed subtest where pytest 9 does: the count makes the item fail."""
    try:
        from _pytest.subtests import failed_subtests_key
    except ImportError:
        return
    if report.failed:
        counts: Any = config.stash[failed_subtests_key]
        counts[getattr(report, "id", report.nodeid)] += 1


def temporary_base(config: pytest.Config, *, make: bool = False) -> object:
    """Return the directory of all temporary directories; None as long as there is none."""
    factory: Any = getattr(config, "_tmp_path_factory", None)
    if factory is not None and make:
        factory.getbasetemp()
    return getattr(factory, "_basetemp", None)


def captured_output(config: pytest.Config, most: int) -> list[tuple[str, str]]:
    """Return and forget what is captured and in no report yet, as pairs of stream and text.

    :param most: how many bytes of each to read: a process may have filled the disk.
    """
    capture: Any = config.pluginmanager.get_plugin("capturemanager")
    if capture is None or not capture.is_globally_capturing():
        return []
    for name in ("out", "err"):
        with suppress(AttributeError, OSError, ValueError):
            fd = getattr(capture._global_capturing, name).tmpfile.fileno()
            if os.fstat(fd).st_size > most:
                os.ftruncate(fd, most)
    out, err = capture.read_global_capture()
    return [(name, text) for name, text in (("stdout", out), ("stderr", err)) if text]


def highlight(config: pytest.Config, text: str, lexer: str) -> None:
    """Colour *text* as a failure is coloured, where pytest does: loads what that takes."""
    if config.pluginmanager.has_plugin("terminalreporter"):
        colour = getattr(config.get_terminal_writer(), "_highlight", None)
        if colour is not None:
            colour(text, lexer=lexer)


def silence(reporter: pytest.TerminalReporter) -> TextIO:
    """Have *reporter* print nothing; return what it printed to until now."""
    writer: Any = reporter._tw
    stream: TextIO = writer._file
    writer._file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the process's end
    return stream
