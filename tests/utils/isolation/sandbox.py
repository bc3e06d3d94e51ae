# SPDX-License-Identifier: GPL-2.0-only
"""What a case is given: namespaces, a root of its own with few mounts, /proc, and a tmpfs.

The process that forks the cases (see :mod:`tests.utils.isolation.zygote`) calls :func:`arrange`
once: it moves to a mount namespace into which nothing of the host propagates, on a tmpfs that holds
what Python, pytest and the checkout need, and nothing else. Each case then calls :func:`enter` for
a copy of its own. What the machine grants is found out by doing both in throw-away children.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.utils.tasks.case_name import tmpfs_source
from tests.utils.tasks.process import ChildError, die_with, fork, in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    AT_FDCWD,
    AT_RECURSIVE,
    CLONE_NEWNS,
    CLONE_NEWPID,
    MNT_DETACH,
    MOUNT_ATTR_RDONLY,
    MS_BIND,
    MS_PRIVATE,
    MS_REC,
)
from tests.utils.uapi.syscalls import mount, mount_setattr, pivot_root, umount2, unshare

# linux/mount.h
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1 << 1, 1 << 2, 1 << 3

#: Directories with the system's programs, libraries and settings: cases see them read-only.
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/nix", "/gnu")
#: Where the root of the host lies for as long as the cases' own root is being filled.
_OLD = Path("/.host")
#: Where the tmpfs of a case may go on the machine's own root, best first: directories every system
#: has, and that nothing here needs.
_CANDIDATES = ("/mnt", "/media", "/srv", "/opt", "/home", "/var/tmp", "/tmp", "/run", "/boot")


@dataclass(frozen=True, slots=True)
class Facts:
    """The isolation a case gets on this machine."""

    #: A mount namespace of its own, in which everything is private.
    mount_namespace: bool = False
    #: A root made for the run; without it the case sees a copy of the machine's mounts.
    own_root: bool = False
    #: A PID namespace with its own /proc: nothing outlives the case.
    pid_namespace: bool = False
    #: A user namespace of its own with the caller mapped to 0 (never for a caller that needs none).
    user_namespace: bool = False
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
    """Have cases see *paths*: no tmpfs hides them, and their own root has them."""
    _kept_visible.extend(paths)


def _needed() -> list[Path]:
    """Return the paths the interpreter, pytest and the cases read from while a case runs."""
    names = [sys.prefix, sys.base_prefix, os.__file__, tempfile.gettempdir(), *sys.path, ""]
    paths = [Path(os.path.abspath(name)) for name in names] + _kept_visible
    return [path for path in paths if os.path.exists(path) and path != Path("/")]


# --- the surroundings of all cases ----------------------------------------------------------------


def arrange(wanted: Facts) -> tuple[int | None, int | None]:
    """Move the calling process, and its children-to-be, into the namespaces of *wanted*.

    :returns: the PID of the PID namespace's init, and a descriptor of the mount table of the cases'
        own root; None for what they do not have.
    :raises OSError: the machine does not grant them.
    """
    init = mountinfo = None
    if wanted.user_namespace:
        enter_new_userns()
    if wanted.own_root and wanted.scratch is not None:
        directory = os.getcwd()
        enter_new_mount_ns()
        _enter_own_root(_needed(), wanted.scratch)
        mountinfo = os.open(_OLD / "proc/thread-self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        if not wanted.pid_namespace:
            _bind(_OLD / "proc", Path("/proc"))
    if wanted.pid_namespace:
        init = _fork_init(mount_proc=wanted.own_root)
    if wanted.own_root:
        umount2(_OLD, MNT_DETACH)
        _OLD.rmdir()
        os.chdir(directory)
    return init, mountinfo


def _enter_own_root(needed: Iterable[Path], scratch: Path) -> None:
    """Make a tmpfs the root, with *needed* and the system's directories bound into it, and an empty
    directory *scratch*."""
    base = Path(tempfile.gettempdir())
    # What lies below another one, by whatever name, comes after it.
    paths = sorted({*map(Path, _SYSTEM), Path("/dev"), *needed}, key=os.path.realpath)
    mount(tmpfs_source(), base, "tmpfs", 0, "mode=755")
    old = base / _OLD.name
    old.mkdir()
    os.chdir(base)
    pivot_root(".", _OLD.name)
    os.chdir("/")
    for path in (Path("/proc"), scratch):
        path.mkdir(parents=True)
    for path in paths:
        _bring(path)


def _bring(path: Path) -> None:
    """Bind *path* of the host's root to the same place, with the symbolic links on the way."""
    for step in (*reversed(path.parents), path):
        old = _OLD / step.relative_to("/")
        if old.is_symlink():
            target = Path(os.readlink(old))
            if not step.is_symlink():
                step.symlink_to(target)
            _bring(Path(os.path.normpath(step.parent / target / path.relative_to(step))))
            return
        if step.exists() and _is_covered(step, old):
            _bind(old, step)
    if not old.exists() or (path.exists() and path.samefile(old)):
        return
    (path if old.is_dir() else path.parent).mkdir(parents=True, exist_ok=True)
    if not old.is_dir():
        path.touch()
    _bind(old, path)


def _is_covered(path: Path, old: Path) -> bool:
    """Return whether *path* is a directory of the host on which the host has a mount, *old*."""
    return path.stat().st_dev != os.stat("/").st_dev and not path.samefile(old)


def _bind(old: Path, path: Path) -> None:
    """Bind *old* to *path*, alone where it may be."""
    try:
        mount(old, path, None, MS_BIND)
    except OSError:
        # What lies on it is locked to its place: a user namespace must not see below.
        mount(old, path, None, MS_BIND | MS_REC)
    mount(None, path, None, MS_REC | MS_PRIVATE)
    if any(path.is_relative_to(folder) for folder in _SYSTEM):
        mount_setattr(AT_FDCWD, path, AT_RECURSIVE, attr_set=MOUNT_ATTR_RDONLY)


def _fork_init(*, mount_proc: bool) -> int:
    """Fork PID 1 of a new PID namespace, which does nothing but die and take all others along."""
    unshare(CLONE_NEWPID)
    parent = os.pidfd_open(os.getpid())
    ready, told = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            die_with(parent)
            os.setsid()
            # Orphans are reaped by the kernel.
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            if mount_proc:
                _mount_proc()
            os.write(told, b"!")
            os.chdir("/")
            # A pipe held open here would keep its reader waiting.
            os.closerange(0, 1 << 16)
            while True:
                signal.pause()
        except OSError as error:
            os.write(told, str(error.errno).encode())
        finally:
            os._exit(1)
    for fd in (parent, told):
        os.close(fd)
    said = os.read(ready, 16)
    os.close(ready)
    if said != b"!":
        os.waitpid(pid, 0)
        number = int(said or 0)
        raise OSError(number, f"mount of proc in a PID namespace: {os.strerror(number)}")
    return pid


def _mount_proc() -> None:
    mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


# --- each case ------------------------------------------------------------------------------------


def enter(granted: Facts) -> None:
    """In the child of a case: move to a mount namespace of its own and fill it."""
    if not granted.mount_namespace:
        return
    if granted.own_root:
        # All is private there, and so are the copies.
        unshare(CLONE_NEWNS)
    else:
        enter_new_mount_ns()
        if granted.pid_namespace:
            _mount_proc()
    if granted.scratch is not None:
        # No flags: cases make device nodes (overlay whiteouts) and run programs there.
        mount(tmpfs_source(), granted.scratch, "tmpfs", 0, "mode=0755")


# --- what the machine grants ----------------------------------------------------------------------


def _try(wanted: Facts) -> None:
    """Take every step the process that forks the cases will take, and a case's child then."""
    init, _ = arrange(wanted)
    try:
        in_child(lambda: enter(wanted))
    finally:
        if init is not None:
            os.kill(init, signal.SIGKILL)
            os.waitpid(init, 0)


def _problem(wanted: Facts) -> str:
    """Return why *wanted* is not to be had, empty when it is."""
    try:
        in_child(lambda: _try(wanted))
    except (OSError, ChildError) as error:
        return str(error)
    return ""


def _free() -> list[Path]:
    """Return those of _CANDIDATES that hide nothing needed."""
    needed = [path.resolve() for path in _needed()]
    free = [path for path in map(Path, _CANDIDATES) if path.resolve() == path]
    return [path for path in free if not any(other.is_relative_to(path) for other in needed)]


def _on_machines_root(wanted: Facts) -> Facts:
    """Return *wanted* on the machine's own root, with the first scratch directory that will do."""
    problem = f"none of {', '.join(_CANDIDATES)} is free to cover"
    for path in filter(Path.is_dir, _free()):
        found = replace(wanted, own_root=False, scratch=path)
        problem = _problem(found)
        if not problem:
            return found
    lost = f"No tmpfs: {problem}."
    return replace(wanted, own_root=False, scratch=None, missing=(*wanted.missing, lost))


@functools.cache
def facts() -> Facts:
    """Return the isolation a case gets on this machine, found out once per process."""
    found = Facts(mount_namespace=True)
    if refused := _problem(found):
        found = replace(found, user_namespace=True)
        if problem := _problem(found):
            why = f"No mount namespace of one's own: {refused}; in a user namespace: {problem}."
            return Facts(missing=(why,))
    missing = []
    rooted = replace(found, own_root=True, scratch=next(iter(_free()), Path("/case")))
    if problem := _problem(rooted):
        missing.append(f"No root of the suite's own: {problem}.")
        found = _on_machines_root(found)
    else:
        found = rooted
    if problem := _problem(replace(found, pid_namespace=True)):
        # Without a /proc of its own /proc/PID would mean the wrong process to every case: then
        # better no PID namespace. A /proc with mounts on it is refused to a user namespace.
        missing.append(f"No PID namespace with its own /proc: {problem}.")
    else:
        found = replace(found, pid_namespace=True)
    return replace(found, missing=(*found.missing, *missing))


@functools.cache
def on_machines_root(granted: Facts) -> Facts:
    """Return *granted*, but for the root: a copy of the machine's own mounts."""
    if not granted.own_root:
        return granted
    found = _on_machines_root(granted)
    if found.scratch is None and granted.pid_namespace:
        # A /proc with mounts on it is refused to a user namespace, and in the own root is none.
        found = _on_machines_root(replace(granted, pid_namespace=False))
    return found
