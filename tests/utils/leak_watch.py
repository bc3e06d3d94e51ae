# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a case that leaves a mount or a mount namespace behind fails.

Processes are the business of the case's own child (tests.utils.child), and what a namespace is
charged to cannot be read: the cases of T4 count it, within a limit of their own. Trees that are
mounted nowhere, and user namespaces that own nothing, are seen by nobody here.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Iterator
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest

from tests.utils.aftermath import Finding, fail_session
from tests.utils.isolation import is_of_isolated
from tests.utils.keeper import close_private, keep_private
from tests.utils.nsfs import NS_MNT_GET_NEXT, current_mnt_ns, mnt_get_neighbour, ns_inode

MOUNTS = Path("/proc/self/mountinfo")
_TITLE = "left behind"
#: How long a namespace may take to be gone, in seconds: some things are let go of later.
_PATIENCE = 1.0


class Mounts:
    """The mounts of the calling process."""

    def __init__(self) -> None:
        """:raises OSError: they cannot be read here."""
        self._fd = os.open(MOUNTS, os.O_RDONLY | os.O_CLOEXEC)
        keep_private(self._fd)
        self._poller = select.poll()
        # The kernel's sign that the table has changed (proc_pid_mounts(5)).
        self._poller.register(self._fd, select.POLLPRI)
        self._known = self._read()

    def _read(self) -> list[str]:
        return MOUNTS.read_text(errors="backslashreplace").splitlines()

    def changes(self) -> list[str]:
        """The lines of the table that are new ("+ ...") or gone ("- ...") since the last call."""
        if not self._poller.poll(0):
            return []
        before, self._known = self._known, self._read()
        compared = unified_diff(before, self._known, n=0, lineterm="")
        return [
            f"{line[0]} {line[1:]}"
            for line in compared
            if line[0] in "+-" and not line.startswith(("+++", "---"))
        ]

    def close(self) -> None:
        """Close the table."""
        close_private(self._fd)


class Namespaces:
    """The mount namespaces of the machine."""

    def __init__(self) -> None:
        """:raises OSError: the caller may not see them, or the kernel cannot list them."""
        self._own = current_mnt_ns()
        keep_private(self._own)
        try:
            self._known = set(self._younger())
        except BaseException:
            close_private(self._own)
            raise

    def _younger(self) -> dict[int, tuple[int, int]]:
        """All that are younger than the caller's own: their ids, and what ns_inode() says of each.

        From one to the next, which finds those too that listns(2) leaves out: an error in counting
        may well leave a namespace inactive and allocated.
        """
        found = {}
        fd = self._own
        try:
            while True:
                following, info = mnt_get_neighbour(fd, NS_MNT_GET_NEXT)
                if fd != self._own:
                    os.close(fd)
                fd = following
                found[info.mnt_ns_id] = ns_inode(fd)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        finally:
            if fd != self._own:
                os.close(fd)
        return found

    def left(self) -> dict[int, str]:
        """New ones that nobody lives in, and who has a descriptor of them; each is told once.

        What a process of the machine lives in is the machine's own.
        """
        now = self._younger()
        new = now.keys() - self._known
        until = time.monotonic() + _PATIENCE
        while new:
            lived_in = set(_lived_in())
            foreign = {key for key in new if now[key] in lived_in}
            self._known |= foreign
            new -= foreign
            if not new or time.monotonic() > until:
                break
            time.sleep(0.005)
            new &= self._younger().keys()
        self._known |= new
        return {key: _holders(now[key]) for key in sorted(new)}

    def close(self) -> None:
        """Close the descriptor this takes."""
        close_private(self._own)


def _processes() -> Iterator[str]:
    return (f"/proc/{name}" for name in os.listdir("/proc") if name.isdecimal())


def _lived_in() -> Iterator[tuple[int, int]]:
    """What ns_inode() says of each mount namespace that a process lives in."""
    for process in _processes():
        with suppress(OSError):
            yield ns_inode(f"{process}/ns/mnt")


def _holders(namespace: tuple[int, int]) -> str:
    """The processes that have a descriptor of *namespace*, as text."""
    found = []
    for process in _processes():
        with suppress(OSError):
            name = Path(f"{process}/comm").read_text(errors="replace").strip()
            for fd in os.listdir(f"{process}/fd"):
                # A descriptor may be closed meanwhile.
                with suppress(OSError):
                    if ns_inode(f"{process}/fd/{fd}") == namespace:
                        found.append(f"descriptor {fd} of process {process[6:]} ({name})")
    return ", ".join(found) or "nothing that /proc shows"


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None and config.getoption("dist", "no") != "no":
        config.pluginmanager.register(Session(), "leak-watch-session")
    else:
        alone = worker is None or worker["workercount"] == 1
        config.pluginmanager.register(Cases(alone=alone), "leak-watch-cases")


class Cases:
    """Charges the cases that run in this process."""

    def __init__(self, *, alone: bool) -> None:
        """Without *alone*, cases run in other processes at the same time."""
        self._alone = alone
        self._mounts: Mounts | None = None
        self._namespaces: Namespaces | None = None

    def pytest_isolation_begins(self) -> None:
        """See what there is."""
        with suppress(OSError):
            self._mounts = Mounts()
        if self._alone:
            # Else those of other cases come and go meanwhile, and tell nobody whose they are.
            with suppress(OSError):
                self._namespaces = Namespaces()

    def pytest_isolation_ended(self) -> Finding | None:
        """Charge a case with what is there now and was not, or the other way round."""
        changes = self._mounts.changes() if self._mounts is not None else []
        left = self._namespaces.left() if self._namespaces is not None else {}
        if not changes and not left:
            return None
        messages, texts = [], []
        if changes:
            messages.append("the mounts of the pytest process have changed")
            others = "" if self._alone else ", a case of another worker,"
            texts += [*changes, f"(by this case{others} or by somebody else on this machine)"]
        if left:
            messages.append(f"the case left {_count(left)} behind")
            texts += _lines(left)
        return Finding("; ".join(messages), "\n".join(texts), _TITLE)

    def pytest_unconfigure(self) -> None:
        """Close what is open."""
        for one in (self._mounts, self._namespaces):
            if one is not None:
                one.close()


class Session:
    """Charges the session, where cases run side by side in workers of pytest-xdist."""

    def __init__(self) -> None:
        self._namespaces: Namespaces | None = None
        self._any = False

    def pytest_sessionstart(self) -> None:
        """See what there is."""
        with suppress(OSError):
            self._namespaces = Namespaces()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that there are cases."""
        self._any = self._any or is_of_isolated(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Charge the session, now that no case runs any more."""
        left = self._namespaces.left() if self._namespaces is not None and self._any else {}
        if left:
            message = f"{_count(left)} left behind by cases (a run without -n tells by which)"
            fail_session(session, Finding(message, "\n".join(_lines(left)), _TITLE))

    def pytest_unconfigure(self) -> None:
        """Close what is open."""
        if self._namespaces is not None:
            self._namespaces.close()


def _count(left: dict[int, str]) -> str:
    return f"{len(left)} mount namespace{'s' if len(left) > 1 else ''}"


def _lines(left: dict[int, str]) -> list[str]:
    return [f"mount namespace {key}, held by {holders}" for key, holders in left.items()]
