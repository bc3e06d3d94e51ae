# SPDX-License-Identifier: GPL-2.0-only
"""The mount namespaces that appear while cases run: whose each is, and who holds it."""

from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from pathlib import Path

from tests.utils.tasks.private_fds import close_private, keep_private
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

#: Seconds a namespace may take to be gone: some references are dropped later.
_RELEASE_TIMEOUT = 1.0

#: The inode of the initial PID namespace (linux/nsfs.h).
_PID_NS_INIT_INO = 0xEFFFFFFC


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

        Each is returned once. One that only another program holds is that program's, and so is one
        that nobody holds and that has other mounts than cases make, unless nobody else runs.
        """
        suspects = {}
        for key, inode in self.new().items():
            owner = whose(key)
            may_be = owner is None or (owner == "" and nobody_else_runs())
            if owner == name or (may_be and not self._users(inode, name)):
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
                found.append((whose(key) == name, f"a mount in namespace {key}"))
        return found

    def abandoned(self) -> list[int]:
        """Return the new ones that nobody keeps, and that are still there some time later."""
        suspects = {key for key, inode in self.new().items() if not self._users(inode, "")}
        until = time.monotonic() + _RELEASE_TIMEOUT
        while suspects and time.monotonic() < until:
            time.sleep(0.05)
            suspects &= self.new().keys()
        return sorted(suspects)

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


def nobody_else_runs() -> bool:
    """Return whether all processes are above or below the caller, but for the kernel's own.

    Where not all can be seen, in a PID namespace, somebody does.
    """
    if _link("/proc/self/ns/pid") != f"pid:[{_PID_NS_INIT_INO}]":
        return False
    with closing_fd(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)) as proc:
        above = parents(proc)
    known, pid = _family(), os.getpid()
    while pid := above.get(pid, 0):
        known.add(pid)
    for other in above.keys() - known:
        with suppress(OSError):
            if Path(f"/proc/{other}/cmdline").read_bytes():
                return False
    return True


def _table(ns_id: int) -> list[Mount]:
    """Return the mounts of namespace *ns_id*, as far as they are still there."""
    found = []
    with suppress(OSError):
        for mnt_id in listmount(ns_id=ns_id):
            with suppress(OSError):
                found.append(statmount(mnt_id, ns_id=ns_id))
    return found


def whose(ns_id: int) -> str | None:
    """Return the name of the cases whose namespace *ns_id* is, empty for another program's; None
    when nothing in it tells."""
    mounts = [mount for mount in _table(ns_id) if mount.sb_magic != NULL_FS_MAGIC]
    if not mounts:
        return None
    return next((m.sb_source for m in mounts if m.sb_source.startswith("case-")), "")
