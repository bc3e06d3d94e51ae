# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: ``--ktap`` prints results as KTAP, each as its case ends.

With ``--ktap`` the document takes the place of pytest's own report on standard output; with
``--ktap=FILE`` it is written beside it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.utils import pytest_internals
from tests.utils.report import ktap
from tests.utils.report.case import Case
from tests.utils.report.case_reporter import CaseReporter, is_wanted

_STDOUT = "-"


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
    if not is_wanted(config, "ktap", "--ktap"):
        return
    target = config.getoption("ktap")
    # argparse takes the word after a bare --ktap for its value.
    if os.path.isdir(target) or target.endswith(".py") or "::" in target:
        raise pytest.UsageError(
            f"--ktap={target}: this names cases and no file to write;"
            f" for KTAP on standard output, put {target} before --ktap"
        )
    config.pluginmanager.register(Writer(config, target), "ktap-writer")


class Writer(CaseReporter):
    """Writes the document of one session."""

    def __init__(self, config: pytest.Config, target: str) -> None:
        super().__init__()
        self._config = config
        self._own = target != _STDOUT
        self._stream = sys.stdout
        if self._own:
            try:
                self._stream = Path(target).open("w", encoding="utf-8")  # noqa: SIM115
            except OSError as error:
                raise pytest.UsageError(f"--ktap={target}: {error.strerror}") from None
        #: The names that are not the id itself.
        self._names: dict[str, str] = {}
        self._outcomes: Counter[str] = Counter()

    def _print(self, *lines: str) -> None:
        text = "".join(f"{line}\n" for line in lines)
        # A name may hold what the stream's encoding does not.
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._stream.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Begin the document, and silence the report it takes the place of."""
        reporter: Any = self._config.pluginmanager.get_plugin("terminalreporter")
        if not self._own and reporter is not None:
            # Not unregistered: pytest itself and other plugins count on it.
            self._stream = pytest_internals.silence(reporter)
        self._print(ktap.HEADER)

    def planned(self, ids: Sequence[str]) -> None:
        """Print the plan."""
        names = ktap.unique_names(ids)
        self._names = {nodeid: name for nodeid, name in names.items() if name != nodeid}
        self._print(ktap.plan(len(ids)))

    def ended(self, case: Case) -> None:
        """Print a result."""
        self._outcomes[case.outcome] += 1
        name = self._names.get(case.id, case.id)
        self._print(*ktap.result(self._outcomes.total(), name, case))

    def finished(self, lost: str) -> None:
        """End the document."""
        if lost:
            running = [f"was running: {nodeid}" for nodeid in self.running]
            self._print(*ktap.diagnostics("\n".join([self.lost_text, *running]).strip()))
            self._print(ktap.bail_out(lost))
        self._print(ktap.totals(self._outcomes))

    def pytest_unconfigure(self) -> None:
        """Close the file."""
        if self._own:
            self._stream.close()
