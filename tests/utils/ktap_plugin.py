# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: ``--ktap`` prints results as KTAP, each as its case ends.

With ``--ktap`` the document takes the place of pytest's own report on standard output; with
``--ktap=FILE`` it is written beside it. Under pytest-xdist the controller writes it: the workers'
reports arrive there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.utils import ktap
from tests.utils.outcomes import Report, failure_text, outcome_of, sections_of

_STDOUT = "-"
#: With these pytest lists something and runs nothing.
_LISTINGS = ("collectonly", "showfixtures", "show_fixtures_per_test")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("open_tree_ns", "OPEN_TREE_NAMESPACE cases").addoption(
        "--ktap",
        nargs="?",
        const=_STDOUT,
        metavar="FILE",
        help="print the results as KTAP in place of the usual report, or with --ktap=FILE write"
        " them into a file beside it",
    )


def pytest_configure(config: pytest.Config) -> None:
    target = config.getoption("ktap")
    if not target or hasattr(config, "workerinput"):
        return
    if any(config.getoption(name, False) for name in _LISTINGS):
        return
    if config.getoption("dist", "no") == "each":
        raise pytest.UsageError("--ktap cannot tell apart the runs of one case: no --dist=each")
    # argparse takes the word after a bare --ktap for its value.
    if os.path.isdir(target) or target.endswith(".py") or "::" in target:
        raise pytest.UsageError(
            f"--ktap={target}: this names cases and no file to write;"
            f" for KTAP on standard output, put {target} before --ktap"
        )
    config.pluginmanager.register(Writer(config, target), "ktap-writer")


class Writer:
    """Writes the document of one session."""

    def __init__(self, config: pytest.Config, target: str) -> None:
        self._config = config
        self._own = target != _STDOUT
        self._stream = sys.stdout
        if self._own:
            try:
                self._stream = Path(target).open("w", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise pytest.UsageError(f"--ktap={target}: {error.strerror}") from None
        self._names: dict[str, str] | None = None
        self._uncollected: dict[str, Report] = {}
        self._running: dict[str, list[Report]] = {}
        self._results: list[ktap.Result] = []
        self._lost = ""
        self._lost_text = ""

    def _print(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        # A name may hold what the stream's encoding does not.
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()

    # --- the beginning ---------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Begin the document, and silence the report it takes the place of."""
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if not self._own and reporter is not None:
            # Not unregistered: pytest itself and other plugins count on it.
            self._stream = _silence(reporter)
        self._print(ktap.HEADER)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what became of a module none of whose cases will be seen."""
        if not report.passed:
            self._uncollected.setdefault(report.nodeid or "collection", report)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Print the plan."""
        self._plan([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Print the plan; every worker has the same cases."""
        self._plan(ids)

    def _plan(self, ids: list[str]) -> None:
        if self._names is not None:
            return
        self._names = ktap.unique_names([*self._uncollected, *ids])
        self._print(ktap.plan(len(self._names)))
        for name, report in self._uncollected.items():
            self._result(name, [report])

    # --- one case after the other ----------------------------------------------------------------

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a case runs."""
        self._running[nodeid] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep a report until its case has ended."""
        self._running.setdefault(report.nodeid, []).append(report)
        when: str = report.when
        if when == "???":  # pytest-xdist's, for a case that took its worker along; no end follows
            self.pytest_runtest_logfinish(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Print a result."""
        self._result(nodeid, self._running.pop(nodeid, []))

    def _result(self, nodeid: str, reports: list[Report]) -> None:
        outcome, reason = outcome_of(reports)
        text = failure_text(reports)
        for title, content in sections_of(reports).items():
            text += f"\n--- {title} ---\n{content}"
        duration = sum(getattr(report, "duration", 0.0) for report in reports)
        name = (self._names or {}).get(nodeid, nodeid)
        one = ktap.Result(name, outcome, duration, reason, text)
        self._results.append(one)
        self._print(*ktap.result(len(self._results), one))

    # --- the end ---------------------------------------------------------------------------------

    def pytest_internalerror(self, excrepr: object) -> None:
        """Note why the session is lost."""
        self._lost_text = str(excrepr)
        self._lost = "internal error: " + self._lost_text.strip().rpartition("\n")[2]

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """Note why the session is lost: Ctrl-C, pytest.exit, or modules that are broken."""
        text = str(excinfo.value)
        # The text of a Ctrl-C in a case's child is the stack it met.
        self._lost = self._lost or ("" if "\n" in text else text) or excinfo.typename

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """End the document."""
        self._plan([])
        missing = len(self._names or {}) - len(self._results)
        lost = self._lost or str(session.shouldfail or session.shouldstop or "")
        if not lost and missing > 0:
            lost = f"{missing} of {len(self._names or {})} cases did not run"
        if not lost and exitstatus == pytest.ExitCode.USAGE_ERROR:
            lost = "usage error"
        if lost and (missing > 0 or self._lost or not self._results):
            running = [f"was running: {nodeid}" for nodeid in self._running]
            self._print(*ktap.diagnostics("\n".join([self._lost_text, *running]).strip()))
            self._print(ktap.bail_out(lost))
        self._print(ktap.totals(self._results))

    def pytest_unconfigure(self) -> None:
        """Close the file."""
        if self._own:
            self._stream.close()


def _silence(reporter: Any) -> TextIO:
    """Make pytest's terminal *reporter* print nothing; what it printed to until now."""
    writer = reporter._tw
    stream: TextIO = writer._file
    writer._file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the process's end
    return stream
