# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: a case that leaves a mount or a mount namespace behind fails.

What others do on the machine is none of a case's: the mounts that are watched are those of the
cases' own root, and of the machine's only what bears the cases' name (tasks.case_name), which
each tmpfs of a case has as its source. By it a mount namespace tells whose it is, too. One that
tells nothing (it has no mount, or nullfs alone) is a case's when nobody on the machine holds it.

Processes are the business of the case's own child (tests.utils.isolation.child), and what a
namespace is charged to cannot be read: the cases of T4 count it, within a limit of their own. Trees
that are mounted nowhere, and user namespaces that own nothing, are seen by nobody here.
"""

from __future__ import annotations

import errno
import os
import select
import time
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path

import pytest

from tests.utils.isolation.findings import Finding
from tests.utils.isolation.zygote import close_private, keep_private
from tests.utils.report.outcomes import is_of_isolated
from tests.utils.tasks.case_name import case_name
from tests.utils.tasks.process import parents
from tests.utils.uapi.constants import NULL_FS_MAGIC
from tests.utils.uapi.nsfs import (
    NS_MNT_GET_NEXT,
    NS_MNT_GET_PREV,
    current_mnt_ns,
    mnt_get_neighbour,
    ns_inode,
)
from tests.utils.uapi.statmount import Mount, listmount, statmount
from tests.utils.uapi.syscalls import closing_fd

_TITLE = "mounts and namespaces after the case"
#: Seconds a namespace may take to be gone: some references are dropped later.
_RELEASE_TIMEOUT = 1.0


class MountTable:
    """A mount table, by a descriptor of its mountinfo (proc_pid_mountinfo(5)), which it owns."""

    def __init__(self, fd: int, mark: str = "") -> None:
        """Read the table; of its lines only those with *mark* count."""
        self._fd, self._mark = fd, mark
        keep_private(fd)
        self._poller = select.poll()
        # The kernel's sign that the table has changed (proc_pid_mounts(5)).
        self._poller.register(fd, select.POLLPRI)
        self._known = self._read()

    def _read(self) -> list[str]:
        os.lseek(self._fd, 0, os.SEEK_SET)
        data = b""
        while part := os.read(self._fd, 1 << 16):
            data += part
        lines = data.decode(errors="backslashreplace").splitlines()
        # Before they are compared: a machine may have thousands, and change them all the time.
        return [line for line in lines if self._mark in line]

    def changes(self) -> list[str]:
        """Return the lines that are new ("+ ...") or gone ("- ...") since the last call."""
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
    """The mount namespaces of the machine that have appeared since creation."""

    def __init__(self) -> None:
        """:raises OSError: the caller may not see them, or the kernel cannot list them."""
        self._own = current_mnt_ns()
        keep_private(self._own)
        try:
            self._known = set(self._others())
        except BaseException:
            close_private(self._own)
            raise

    def _others(self) -> dict[int, int]:
        """Return all but the caller's own: their ids, and the inode of each.

        From one to the next, which finds those too that listns(2) leaves out: an error in counting
        may well leave a namespace inactive and allocated. Both ways: each processor gives out ids
        of its own, and a new namespace may have a smaller one.
        """
        found = {}
        for direction in (NS_MNT_GET_NEXT, NS_MNT_GET_PREV):
            fd = self._own
            try:
                while True:
                    following, info = mnt_get_neighbour(fd, direction)
                    if fd != self._own:
                        os.close(fd)
                    fd = following
                    found[info.mnt_ns_id] = ns_inode(fd)[1]
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
            finally:
                if fd != self._own:
                    os.close(fd)
        return found

    def accept(self) -> None:
        """Take those there are now for known."""
        self._known |= self._others().keys()

    def new(self) -> dict[int, int]:
        """Return the new ones: their ids, and the inode of each."""
        return {key: inode for key, inode in self._others().items() if key not in self._known}

    def leaked(self, name: str) -> dict[int, str]:
        """Return those that cases called *name* have left since the last call, and who holds each.

        Each is returned once. One that only another program holds is that program's.
        """
        suspects = {}
        for key, inode in self.new().items():
            whose = _whose(key)
            if whose == name or (whose is None and not self._users(inode, name)):
                suspects[key] = inode
            else:
                self._known.add(key)
        until = time.monotonic() + _RELEASE_TIMEOUT
        while suspects and time.monotonic() < until:
            time.sleep(0.005)
            suspects = {key: suspects[key] for key in suspects.keys() & self._others().keys()}
        found = {}
        for key, inode in suspects.items():
            self._known.add(key)
            users = self._users(inode, name)
            ours = [text for own, text in users if own]
            if ours or not users:
                found[key] = ", ".join(ours) or "nothing that /proc or a mount table shows"
        return found

    def _users(self, inode: int, name: str) -> list[tuple[bool, str]]:
        """Return who keeps the namespace *inode*: whether it is the run of the cases called *name*,
        and a text, for each."""
        link = f"mnt:[{inode}]"
        family = _family()
        found = []
        tables = {}
        for pid in _pids():
            with suppress(OSError):
                comm = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
                # One process of each namespace, the run's own where there is one.
                if pid in family or _link(f"/proc/{pid}/ns/mnt") not in tables:
                    tables[_link(f"/proc/{pid}/ns/mnt")] = pid
                for task in os.listdir(f"/proc/{pid}/task"):
                    if _link(f"/proc/{pid}/task/{task}/ns/mnt") == link:
                        found.append((pid in family, f"process {pid} ({comm}) is in it"))
                        break
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    if _link(f"/proc/{pid}/fd/{fd}") == link:
                        found.append((pid in family, f"descriptor {fd} of process {pid} ({comm})"))
        for pid in tables.values():
            with suppress(OSError):
                text = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace")
                if f" {link} " in text:
                    found.append((pid in family, f"a mount that process {pid} sees"))
        for key in self._others():
            if any(mount.mnt_root == link for mount in _table(key)):
                found.append((_whose(key) == name, f"a mount in namespace {key}"))
        return found

    def abandoned(self) -> list[int]:
        """Return the new ones that nobody keeps."""
        return [key for key, inode in self.new().items() if not self._users(inode, "")]

    def close(self) -> None:
        """Close the descriptor this takes."""
        close_private(self._own)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _family() -> set[int]:
    """Return the PIDs of the calling process and its descendants."""
    with closing_fd(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)) as proc:
        above = parents(proc)
    found = {os.getpid()}
    while more := {pid for pid, parent in above.items() if parent in found} - found:
        found |= more
    return found


def _table(ns_id: int) -> list[Mount]:
    """Return the mounts of namespace *ns_id*, as far as they are still there."""
    found = []
    with suppress(OSError):
        for mnt_id in listmount(ns_id=ns_id):
            with suppress(OSError):
                found.append(statmount(mnt_id, ns_id=ns_id))
    return found


def _whose(ns_id: int) -> str | None:
    """Return the name of the cases whose namespace *ns_id* is, empty for another program's; None
    when nothing in it tells."""
    mounts = [mount for mount in _table(ns_id) if mount.sb_magic != NULL_FS_MAGIC]
    if not mounts:
        return None
    return next((m.sb_source for m in mounts if m.sb_source.startswith("case-")), "")


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

    def pytest_sessionstart(self) -> None:
        """See what there is."""
        with suppress(OSError):
            self._namespaces = Namespaces()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that there are cases, and what they were charged with."""
        self._any = self._any or is_of_isolated(report)
        self._charged += "".join(text for title, text in report.sections if title == _TITLE)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the namespaces that nobody keeps, and no case was charged with."""
        if not self._any or self._namespaces is None:
            return
        found = [str(key) for key in self._namespaces.abandoned()]
        if found := [key for key in found if f" {key}, held by" not in self._charged]:
            terminalreporter.line(
                "mount namespaces that have appeared during the run and that nobody holds (perhaps"
                f" another program's): {', '.join(found)}"
            )

    def pytest_unconfigure(self) -> None:
        """Close what is open."""
        if self._namespaces is not None:
            self._namespaces.close()
