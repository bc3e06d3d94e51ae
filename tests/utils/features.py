# SPDX-License-Identifier: GPL-2.0-only
"""Features a case may need that are newer than the flag, or optional: each asked for by a probe.

A probe runs in a forked child, in a mount namespace of its own (and in a user namespace where the
caller is not privileged), so that nothing of it stays. It returns None, or what is missing.
"""

from __future__ import annotations

import errno
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.utils.caps import CAP_SYS_ADMIN, capget
from tests.utils.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    FSMOUNT_NAMESPACE,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    OPEN_TREE_NAMESPACE,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.fanotify import mount_watch
from tests.utils.fuse import SlowFile
from tests.utils.nsfs import NS_MNT_GET_NEXT, current_mnt_ns, listns, mnt_get_neighbour
from tests.utils.process import ChildError, in_child
from tests.utils.syscalls import (
    fsmount,
    mount,
    move_mount,
    open_tree,
    setns,
    unshare,
)
from tests.utils.trees import fresh_tmpfs
from tests.utils.unlocked import leave_locks_behind
from tests.utils.userns import enter_new_mount_ns, enter_new_userns


def _sandboxed(function: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        if not capget().has(CAP_SYS_ADMIN):
            enter_new_userns()
        enter_new_mount_ns()
        function()

    return run


def _missing(function: Callable[[], None], what: str, absent: int) -> str | None:
    """Run a probe: None when it succeeds, *what* when it ends in the errno *absent*."""
    try:
        in_child(_sandboxed(function))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        sure = "" if error.errno == absent else ", which is not how a kernel without it answers"
        return f"kernel has no {what} (the probe gave {name}{sure})"
    except ChildError as error:
        return f"the probe for {what} failed: {error}"
    return None


def _beneath_root() -> None:
    setns(open_tree(fresh_tmpfs(), "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH))
    move_mount(fresh_tmpfs(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH)


def _empty_namespace() -> None:
    unshare(UNSHARE_EMPTY_MNTNS)


def _fsmount_namespace() -> None:
    try:
        fsmount(-1, FSMOUNT_NAMESPACE)
    except OSError as error:
        # Flags are checked before the descriptor.
        if error.errno != errno.EBADF:
            raise


def _list_namespaces() -> None:
    listns()


def _see_all_namespaces() -> None:
    try:
        fd, _ = mnt_get_neighbour(current_mnt_ns(), NS_MNT_GET_NEXT)
    except OSError as error:
        # There may be no next one.
        if error.errno != errno.ENOENT:
            raise
    else:
        os.close(fd)


def _mount_events() -> None:
    mount_watch(current_mnt_ns())


def _mount_proc() -> None:
    enter_new_userns()
    enter_new_mount_ns()
    unshare(CLONE_NEWPID)
    in_child(functools.partial(mount, "proc", tempfile.gettempdir(), "proc"))


def _fuse_file() -> None:
    mount("tmpfs", tempfile.gettempdir(), "tmpfs")
    SlowFile(Path(tempfile.gettempdir()) / "file")


def _uts_namespace() -> None:
    unshare(CLONE_NEWUTS)


def _expendable() -> None:
    if "vm.end=" not in Path("/proc/cmdline").read_text():
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))


def _debugfs_automount() -> None:
    directory = Path(tempfile.gettempdir())
    mount("debugfs", directory, "debugfs")
    (directory / "tracing").stat()


def _overlay() -> None:
    directory = Path(tempfile.gettempdir())
    mount("tmpfs", directory, "tmpfs")
    layers = [directory / name for name in ("lower", "upper", "work")]
    for layer in layers:
        layer.mkdir()
    lower, upper, work = layers
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    mount("overlay", directory, "overlay", 0, options)


def _devpts() -> None:
    mount("devpts", tempfile.gettempdir(), "devpts", 0, "newinstance")


#: Name of a feature, as markers use it -> what is missing, or None.
FEATURES: dict[str, Callable[[], str | None]] = {
    name: functools.cache(functools.partial(_missing, function, what, absent))
    for name, function, what, absent in (
        (
            "MOVE_MOUNT_BENEATH on the root",
            _beneath_root,
            "MOVE_MOUNT_BENEATH on the root of a namespace (Linux 7.1)",
            errno.EINVAL,
        ),
        (
            "UNSHARE_EMPTY_MNTNS",
            _empty_namespace,
            "unshare(UNSHARE_EMPTY_MNTNS) (Linux 7.1)",
            errno.EINVAL,
        ),
        (
            "FSMOUNT_NAMESPACE",
            _fsmount_namespace,
            "fsmount(FSMOUNT_NAMESPACE) (Linux 7.1)",
            errno.EINVAL,
        ),
        (
            "unlocked root",
            leave_locks_behind,
            "root that may be unmounted; it takes privilege over the machine's mount namespace, or "
            "unshare(UNSHARE_EMPTY_MNTNS) (Linux 7.1)",
            errno.EINVAL,
        ),
        (
            "proc in a user namespace",
            _mount_proc,
            "proc that a user namespace may mount: the machine's own is covered in part, or absent",
            errno.EPERM,
        ),
        (
            "expendable kernel",
            _expendable,
            "permission to crash: the case brings down kernels without the fix, and so runs in "
            "guests of python3 -m vm only",
            errno.ENOTSUP,
        ),
        ("FUSE", _fuse_file, "FUSE (CONFIG_FUSE_FS, and a /dev/fuse for the caller)", errno.ENOENT),
        ("listns", _list_namespaces, "listns(2) (Linux 6.19)", errno.ENOSYS),
        (
            "sight of all namespaces",
            _see_all_namespaces,
            "sight of all mount namespaces for the caller; it takes CAP_SYS_ADMIN in the initial "
            "user namespace, and the initial PID namespace",
            errno.EPERM,
        ),
        (
            "mount events",
            _mount_events,
            "fanotify events of mounts (FAN_REPORT_MNT, Linux 6.15; CONFIG_FANOTIFY)",
            errno.EINVAL,
        ),
        ("overlayfs", _overlay, "overlay file system here (CONFIG_OVERLAY_FS)", errno.ENODEV),
        ("devpts", _devpts, "devpts here (CONFIG_UNIX98_PTYS)", errno.ENODEV),
        ("UTS namespace", _uts_namespace, "UTS namespaces (CONFIG_UTS_NS)", errno.EINVAL),
        (
            "debugfs automount",
            _debugfs_automount,
            "automount point tracing in debugfs (CONFIG_DEBUG_FS, CONFIG_TRACING)",
            errno.ENODEV,
        ),
    )
}
