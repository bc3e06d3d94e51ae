# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: makes ``--junitxml`` write what the other reports say, and the facts of the run.

It takes the place of pytest's own writer, which gives a case two results when its tear-down fails
too, or a subtest of it, counts a case that was killed among the failed checks, leaves out how to
run it again, and has no properties of the suite under pytest-xdist. Of pytest's options for JUnit
it knows ``--junitprefix`` and ``junit_suite_name``.
"""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.utils.report import digest_text, header
from tests.utils.report.case import Case
from tests.utils.report.case_reporter import CaseReporter, is_wanted
from tests.utils.report.digest_plugin import digest_of
from tests.utils.report.junit import Document


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("xmlpath", None)
    if is_wanted(config, "xmlpath", "--junitxml"):
        config.pluginmanager.register(Writer(config, path), "junit-writer")
    if path:
        # Without it pytest's own does not write.
        config.option.xmlpath = None


class Writer(CaseReporter):
    """Writes the document of one session."""

    def __init__(self, config: pytest.Config, path: str) -> None:
        super().__init__()
        self._config = config
        self._path = Path(os.path.expanduser(os.path.expandvars(path))).absolute()
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(f"--junitxml={path}: {error.strerror}") from None
        self._name: str = config.getini("junit_suite_name")
        self._prefix: str = config.getoption("junitprefix") or ""
        self._document = Document()
        self._facts: dict[str, object] = {}
        self._bad = False
        self._stamp = datetime.now(UTC).isoformat("T", "seconds")

    def pytest_sessionstart(self) -> None:
        """Note the facts of the run, before a case can change one."""
        self._facts = asdict(header.facts())

    def ended(self, case: Case) -> None:
        """Add a case."""
        named = replace(case, id=f"{self._prefix}/{case.id}") if self._prefix else case
        self._document.add(named)
        self._bad = self._bad or case.bad

    def finished(self, lost: str) -> None:
        """Write the file."""
        for nodeid in self.running:
            self.ended(Case(nodeid, "error", f"{lost} while this case ran"))
        if lost and not self._bad:
            # Else a run of which the rest is missing would look like a good one.
            self.ended(Case("session", "error", lost, text=self.lost_text))
        found = digest_of(self._config)
        known = {**(digest_text.properties(found) if found is not None else {}), **self._facts}
        with self._file:
            self._document.write(
                self._file, name=self._name, properties=known, stamp=self._stamp, lost=lost
            )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where it is, as pytest does."""
        if not terminalreporter.config.option.verbose < 0:
            terminalreporter.write_sep("-", f"generated xml file: {self._path}")
