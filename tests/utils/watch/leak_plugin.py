# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a case that leaves a mount or a mount namespace behind fails.

What others do on the machine is none of a case's: the mounts that are watched are those of the
cases' own root, and of the machine's only what bears the cases' name (tasks.case_name), which
each tmpfs of a case has as its source. By it a mount namespace tells whose it is, too. One that
tells nothing (it has no mount, or nullfs alone) is a case's when nobody on the machine holds it.
What only other file systems are mounted in tells of nobody. Held by nobody, it is a case's on a
machine where nothing else runs, such as a guest; what is left at the end and no case was charged
with, as several workers cannot tell whose it is, fails the session there.

Processes are the business of the case's own child (tests.utils.isolation.child), and what a
namespace is charged to cannot be read: the cases of T4 count it, within a limit of their own. Trees
that are mounted nowhere, and user namespaces that own nothing, are seen by nobody here.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import suppress

import pytest

from tests.utils.isolation.findings import Finding, fail_session
from tests.utils.report.outcomes import is_of_isolated
from tests.utils.tasks.case_name import case_name
from tests.utils.watch.mount_table import MountTable
from tests.utils.watch.new_namespaces import Namespaces, nobody_else_runs

_TITLE = "mounts and namespaces after the case"


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Cases(), "leak-watch-cases")
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Session(), "leak-watch-session")


class Cases:
    """Charges the cases that run in this process."""

    def __init__(self) -> None:
        self._name = case_name(os.getpid())
        self._machine: MountTable | None = None
        self._root: MountTable | None = None
        self._namespaces: Namespaces | None = None

    def pytest_isolation_begins(self) -> None:
        """See what there is."""
        with suppress(OSError):
            fd = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            self._machine = MountTable(fd, f" {self._name} ")
        with suppress(OSError):
            self._namespaces = Namespaces()

    def pytest_isolation_prepared(self, mountinfo: int) -> None:
        """Watch the table of the cases' root, whose namespace is none that a case has left."""
        if self._namespaces is not None:
            self._namespaces.accept()
        if self._root is not None:
            self._root.close()
        self._root = MountTable(os.dup(mountinfo))

    def pytest_isolation_ended(self) -> Finding | None:
        """Charge a case with what is there now and was not, or the other way round."""
        changes = self._root.changes() if self._root is not None else []
        changes += self._machine.changes() if self._machine is not None else []
        left = self._namespaces.leaked(self._name) if self._namespaces is not None else {}
        if not changes and not left:
            return None
        messages, texts = [], changes
        if changes:
            messages.append("the case changed mounts outside of its own namespaces")
        if left:
            count = f"{len(left)} mount namespace{'s' if len(left) > 1 else ''}"
            messages.append(f"the case left {count} behind")
            texts += [f"mount namespace {key}, held by {users}" for key, users in left.items()]
        return Finding("; ".join(messages), "\n".join(texts), _TITLE, by_rule=False)

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self) -> Generator[None, None, None]:
        """Let go of the cases' root before the namespaces that nobody holds are looked for.

        An open mount table keeps its namespace, and a case that was killed has left no other user.
        """
        if self._root is not None:
            self._root.close()
            self._root = None
        return (yield)

    def pytest_unconfigure(self) -> None:
        """Close what is open."""
        for one in (self._machine, self._root, self._namespaces):
            if one is not None:
                one.close()


class Session:
    """Tells at the end, where the cases are reported, what nobody is charged with."""

    def __init__(self) -> None:
        self._namespaces: Namespaces | None = None
        self._any = False
        #: What cases were charged with.
        self._charged = ""
        #: What nobody keeps, and no case was charged with.
        self._abandoned: list[str] = []

    def pytest_sessionstart(self) -> None:
        """See what there is."""
        with suppress(OSError):
            self._namespaces = Namespaces()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that there are cases, and what they were charged with."""
        self._any = self._any or is_of_isolated(report)
        self._charged += "".join(text for title, text in report.sections if title == _TITLE)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the session for what is left, where there is nobody else who may have made it."""
        if not self._any or self._namespaces is None:
            return
        found = [str(key) for key in self._namespaces.abandoned()]
        found = [key for key in found if f" {key}, held by" not in self._charged]
        if found and nobody_else_runs():
            text = f"mount namespaces that nobody holds: {', '.join(found)}"
            fail_session(session, Finding("the cases left namespaces behind", text, _TITLE))
        else:
            self._abandoned = found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the namespaces that nobody keeps, and that may be another program's."""
        if self._abandoned:
            terminalreporter.line(
                "mount namespaces that have appeared during the run and that nobody holds (perhaps"
                f" another program's): {', '.join(self._abandoned)}"
            )

    def pytest_unconfigure(self) -> None:
        """Close what is open."""
        if self._namespaces is not None:
            self._namespaces.close()
