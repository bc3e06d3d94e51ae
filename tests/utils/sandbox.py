# SPDX-License-Identifier: GPL-2.0-only
"""What a case is given to live in: namespaces, its own /proc, and a tmpfs to build trees on.

What the machine grants is found out once, by trying it in a throw-away child: namespaces of one's
own as the caller is; or, where that takes a privilege the caller lacks, inside a user namespace
with the caller mapped to 0; or nothing, with the reason.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from warnings import catch_warnings, simplefilter

from tests.utils.constants import CLONE_NEWPID
from tests.utils.process import in_child
from tests.utils.syscalls import mount, setns, unshare
from tests.utils.userns import enter_new_mount_ns, enter_new_userns

# linux/mount.h; of no interest to the cases.
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1 << 1, 1 << 2, 1 << 3

#: Where the tmpfs may go, best first: directories every system has, and that nothing here needs.
_CANDIDATES = ("/mnt", "/media", "/srv", "/opt", "/home", "/var/tmp", "/tmp", "/run", "/boot")


@dataclass(frozen=True, slots=True)
class Facts:
    """The isolation a case gets on this machine."""

    #: A mount namespace of its own, in which everything is private.
    mount_namespace: bool = False
    #: A PID namespace with its own /proc: nothing outlives the case.
    pid_namespace: bool = False
    #: A user namespace of its own with the caller mapped to 0 (never for a caller that needs none).
    user_namespace: bool = False
    #: Whether the caller, after children in a new PID namespace, may have others in its own again.
    #: That takes privilege over its own, which the root of a user namespace need not have.
    pid_return: bool = False
    #: Where each case finds an empty tmpfs.
    scratch: Path | None = None
    #: Why something above is missing, as whole sentences.
    missing: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """Why something is missing; empty when nothing is."""
        return " ".join(self.missing)


_kept_visible: list[Path] = []


def keep_visible(*paths: Path) -> None:
    """Have :func:`facts` choose no scratch directory that would hide one of *paths*."""
    _kept_visible.extend(paths)


def _needed() -> list[Path]:
    """Directories the interpreter, pytest and the cases read from while a case runs."""
    names = [sys.prefix, sys.base_prefix, os.__file__, tempfile.gettempdir(), *sys.path, ""]
    return [path.resolve() for path in (*map(Path, names), *_kept_visible)]


def _candidates(needed: Iterable[Path]) -> list[Path]:
    real = [Path(name) for name in _CANDIDATES if os.path.realpath(name) == name]
    return [
        path
        for path in real
        if path.is_dir() and not any(other.is_relative_to(path) for other in needed)
    ]


def _mount_scratch(path: Path) -> None:
    # No flags: cases make device nodes (overlay whiteouts) and run programs there.
    mount("tmpfs", path, "tmpfs", 0, "mode=0755")


def _mount_proc() -> None:
    mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def _try(candidates: list[Path]) -> Facts:
    """In a throw-away child: take every step a case's child will take, and say which worked."""
    user_namespace = False
    missing: list[str] = []
    try:
        enter_new_mount_ns()
    except OSError as refused:
        try:
            enter_new_userns()
            user_namespace = True
            enter_new_mount_ns()
        except OSError as error:
            why = f"No mount namespace of one's own: {refused}; in a user namespace: {error}."
            return Facts(missing=(why,))
    scratch = None
    for path in candidates:
        try:
            _mount_scratch(path)
        except OSError as error:
            missing.append(f"No tmpfs on {path}: {error}.")
        else:
            scratch = path
            missing.clear()
            break
    if not candidates:
        missing.append(f"No tmpfs: none of {', '.join(_CANDIDATES)} is free to cover.")
    pid_namespace, pid_return = True, False
    try:
        own = os.open("/proc/thread-self/ns/pid_for_children", os.O_RDONLY | os.O_CLOEXEC)
        unshare(CLONE_NEWPID)
        # Without a /proc of its own /proc/PID would mean the wrong process to every case: then
        # better no PID namespace. A /proc with mounts on it is refused to a user namespace.
        in_child(_mount_proc)
    except OSError as error:
        pid_namespace = False
        missing.append(f"No PID namespace with its own /proc: {error}.")
    else:
        with suppress(OSError):
            setns(own, CLONE_NEWPID)
            pid_return = True
    return Facts(True, pid_namespace, user_namespace, pid_return, scratch, tuple(missing))


@contextmanager
def quiet_fork() -> Iterator[None]:
    """Silence, around a fork of ours, the warning that other threads exist.

    Under xdist one always does (execnet's receiver), and it holds no lock our children take.
    """
    with catch_warnings():
        simplefilter("ignore", DeprecationWarning)
        yield


@functools.cache
def facts() -> Facts:
    """The isolation a case gets on this machine, found out once per process."""
    candidates = _candidates(_needed())
    with quiet_fork():
        return in_child(lambda: _try(candidates))


def enter(granted: Facts) -> None:
    """In the child of a case: move into the mount namespace and fill it.

    The PID and user namespaces are the business of whoever forked the child.
    """
    if not granted.mount_namespace:
        return
    enter_new_mount_ns()
    if granted.pid_namespace:
        _mount_proc()
    if granted.scratch is not None:
        _mount_scratch(granted.scratch)
