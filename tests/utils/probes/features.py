# SPDX-License-Identifier: GPL-2.0-only
"""Features a case may need that are newer than the flag, or optional: each asked for by a probe."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.utils.mounts.root import enter_unlocked_namespace
from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.probes.probe import Missing, Probe, probe
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    FSMOUNT_NAMESPACE,
    MOVE_MOUNT_BENEATH,
    MOVE_MOUNT_F_EMPTY_PATH,
    OPEN_TREE_NAMESPACE,
    UNSHARE_EMPTY_MNTNS,
)
from tests.utils.uapi.dnotify import dnotify_watch
from tests.utils.uapi.fanotify import fanotify_open_watch, mount_watch
from tests.utils.uapi.fault_injection import ask_for_faults
from tests.utils.uapi.file_handles import name_to_handle_at
from tests.utils.uapi.fuse import HoldingDirectory, SlowFile
from tests.utils.uapi.inotify import inotify_watch
from tests.utils.uapi.landlock import restrict_self
from tests.utils.uapi.nsfs import NS_MNT_GET_NEXT, current_mnt_ns, listns, mnt_get_neighbour
from tests.utils.uapi.statmount import statmount_by_fd
from tests.utils.uapi.syscalls import (
    FD_FAILFS_ROOT,
    fchroot,
    fsmount,
    mount,
    move_mount,
    open_tree,
    setns,
    unshare,
)


def _beneath_root() -> None:
    setns(open_tree(fresh_tmpfs(), "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH))
    move_mount(fresh_tmpfs(), "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_BENEATH)


def _file_handle() -> None:
    try:
        name_to_handle_at(-1)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def _file_lock() -> None:
    mount("tmpfs", tempfile.gettempdir(), "tmpfs")
    fcntl.flock(os.open(tempfile.gettempdir(), os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)


def _fsmount_namespace() -> None:
    try:
        fsmount(-1, FSMOUNT_NAMESPACE)
    except OSError as error:
        # Flags are checked before the descriptor.
        if error.errno != errno.EBADF:
            raise


def _see_all_namespaces() -> None:
    try:
        fd, _ = mnt_get_neighbour(current_mnt_ns(), NS_MNT_GET_NEXT)
    except OSError as error:
        # There may be no next one.
        if error.errno != errno.ENOENT:
            raise
    else:
        os.close(fd)


def _mount_proc() -> None:
    enter_new_userns()
    enter_new_mount_ns()
    unshare(CLONE_NEWPID)
    in_child(functools.partial(mount, "proc", tempfile.gettempdir(), "proc"))


def _fuse_file() -> None:
    mount("tmpfs", tempfile.gettempdir(), "tmpfs")
    SlowFile(Path(tempfile.gettempdir()) / "file")


def _fuse_passthrough() -> None:
    directory = Path(tempfile.gettempdir())
    mount("tmpfs", directory, "tmpfs")
    holder = HoldingDirectory(directory / "holder")
    holder.hold(os.open(directory / "file", os.O_CREAT | os.O_RDWR))


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


#: As many watches as a case has at most, and some more.
_WATCHES = 8
_FANOTIFY_LIMITS = {
    errno.EMFILE: "fs.fanotify.max_user_groups",
    errno.ENOSPC: "fs.fanotify.max_user_marks",
}


def _several(watch: Callable[[], int]) -> Callable[[], object]:
    return lambda: [watch() for _ in range(_WATCHES)]


#: Added to the kernel in one release: where two are, the third is not absent but broken.
_OF_ONE_RELEASE: dict[str, Probe] = {
    "MOVE_MOUNT_BENEATH on the root": probe(
        _beneath_root,
        "MOVE_MOUNT_BENEATH on the root of a namespace (Linux 7.1)",
        errno.EINVAL,
    ),
    "UNSHARE_EMPTY_MNTNS": probe(
        lambda: unshare(UNSHARE_EMPTY_MNTNS),
        "unshare(UNSHARE_EMPTY_MNTNS) (Linux 7.1)",
        errno.EINVAL,
    ),
    "FSMOUNT_NAMESPACE": probe(
        _fsmount_namespace, "fsmount(FSMOUNT_NAMESPACE) (Linux 7.1)", errno.EINVAL
    ),
}


def _with_its_like(name: str) -> Missing | None:
    missing = _OF_ONE_RELEASE[name]()
    others = [other for other in _OF_ONE_RELEASE if other != name]
    if missing is None or missing.broken or any(_OF_ONE_RELEASE[other]() for other in others):
        return missing
    there = " and ".join(others)
    return Missing(f"{missing.reason}, though it has {there}, which came with it", broken=True)


#: Name of a feature, as markers use it -> what is missing, or None.
FEATURES: dict[str, Probe] = {
    **{name: functools.partial(_with_its_like, name) for name in _OF_ONE_RELEASE},
    "unlocked root": probe(
        enter_unlocked_namespace,
        "root that may be unmounted; it takes privilege over the machine's mount namespace, or "
        "unshare(UNSHARE_EMPTY_MNTNS) (Linux 7.1)",
        errno.EINVAL,
    ),
    # EPERM where it is covered, the others where a namespace in a namespace is one too many.
    "proc in a user namespace": probe(
        _mount_proc,
        "proc that a user namespace may mount: the machine's own is covered in part, or absent",
        errno.EPERM,
        errno.ENOSPC,
        errno.EUSERS,
    ),
    "expendable kernel": probe(
        _expendable,
        "permission to be crashed or changed as a whole: the case brings down kernels without the "
        "fix, or changes what the whole machine shares, and runs in guests of python3 -m vm only",
        errno.ENOTSUP,
    ),
    # No device, no file system behind it, or none for this caller.
    "FUSE": probe(
        _fuse_file,
        "FUSE (CONFIG_FUSE_FS, and a /dev/fuse for the caller)",
        errno.ENOENT,
        errno.ENODEV,
        errno.ENXIO,
        errno.EACCES,
        errno.EPERM,
    ),
    "FUSE passthrough": probe(
        _fuse_passthrough,
        "FUSE that passes reads and writes on (CONFIG_FUSE_PASSTHROUGH)",
        errno.ENOENT,
        errno.ENODEV,
        errno.ENXIO,
        errno.EACCES,
        errno.EPERM,
        errno.ENOTTY,
    ),
    "Landlock": probe(
        restrict_self,
        "Landlock (CONFIG_SECURITY_LANDLOCK, and landlock in lsm=)",
        errno.ENOSYS,
        errno.EOPNOTSUPP,
    ),
    # No debugfs, or none with this in it; for root alone; or locked down.
    "fault injection": probe(
        ask_for_faults,
        "fault injection (CONFIG_FAULT_INJECTION_DEBUG_FS, CONFIG_FAILSLAB, debugfs)",
        errno.ENOENT,
        errno.EACCES,
        errno.EPERM,
    ),
    "file handles": probe(_file_handle, "file handles (CONFIG_FHANDLE)", errno.ENOSYS),
    "file locks": probe(_file_lock, "file locks (CONFIG_FILE_LOCKING)", errno.ENOSYS),
    "listns": probe(listns, "listns(2) (Linux 6.19)", errno.ENOSYS),
    "sight of all namespaces": probe(
        _see_all_namespaces,
        "sight of all mount namespaces for the caller; it takes CAP_SYS_ADMIN in the initial "
        "user namespace, and the initial PID namespace",
        errno.EPERM,
    ),
    "mount events": probe(
        _several(lambda: mount_watch(current_mnt_ns())),
        "fanotify events of mounts (FAN_REPORT_MNT, Linux 6.15; CONFIG_FANOTIFY)",
        errno.EINVAL,
        errno.ENOSYS,
        limits=_FANOTIFY_LIMITS,
    ),
    "fanotify": probe(
        _several(lambda: fanotify_open_watch("/")),
        "fanotify events of files (CONFIG_FANOTIFY)",
        errno.ENOSYS,
        errno.EPERM,  # for a caller without privilege over the machine
        limits=_FANOTIFY_LIMITS,
    ),
    "inotify": probe(
        _several(lambda: inotify_watch("/")),
        "inotify (CONFIG_INOTIFY_USER)",
        errno.ENOSYS,
        limits={
            errno.EMFILE: "fs.inotify.max_user_instances",
            errno.ENOSPC: "fs.inotify.max_user_watches",
        },
    ),
    "dnotify": probe(
        lambda: dnotify_watch(tempfile.gettempdir()), "dnotify (CONFIG_DNOTIFY)", errno.EINVAL
    ),
    # EPERM and EINVAL: not for user namespaces, or not on this file system.
    "overlayfs": probe(
        _overlay,
        "overlay file system here (CONFIG_OVERLAY_FS)",
        errno.ENODEV,
        errno.EPERM,
        errno.EINVAL,
    ),
    "devpts": probe(
        lambda: mount("devpts", tempfile.gettempdir(), "devpts", 0, "newinstance"),
        "devpts here (CONFIG_UNIX98_PTYS)",
        errno.ENODEV,
        errno.EPERM,
    ),
    "STATMOUNT_BY_FD": probe(
        lambda: statmount_by_fd(os.open("/", os.O_PATH)),
        "statmount(STATMOUNT_BY_FD) (Linux 7.0)",
        errno.EINVAL,
    ),
    "fchroot": probe(lambda: fchroot(FD_FAILFS_ROOT), "fchroot(2) (Linux 7.3)", errno.ENOSYS),
    "sysctl": probe(
        lambda: os.stat("/proc/sys/user/max_mnt_namespaces"),
        "settings in /proc/sys (CONFIG_PROC_SYSCTL)",
        errno.ENOENT,
    ),
    "PID namespace": probe(
        lambda: unshare(CLONE_NEWPID),
        "PID namespaces (CONFIG_PID_NS)",
        errno.EINVAL,
        limits={errno.ENOSPC: "user.max_pid_namespaces"},
    ),
    "UTS namespace": probe(
        lambda: unshare(CLONE_NEWUTS),
        "UTS namespaces (CONFIG_UTS_NS)",
        errno.EINVAL,
        limits={errno.ENOSPC: "user.max_uts_namespaces"},
    ),
    "network namespace": probe(
        lambda: unshare(CLONE_NEWNET),
        "network namespaces (CONFIG_NET_NS)",
        errno.EINVAL,
        limits={errno.ENOSPC: "user.max_net_namespaces"},
    ),
    "IPC namespace": probe(
        lambda: unshare(CLONE_NEWIPC),
        "IPC namespaces (CONFIG_IPC_NS)",
        errno.EINVAL,
        limits={errno.ENOSPC: "user.max_ipc_namespaces"},
    ),
    # ENOENT: debugfs without tracing; EPERM: for the initial user namespace only, or locked down.
    "debugfs automount": probe(
        _debugfs_automount,
        "automount point tracing in debugfs (CONFIG_DEBUG_FS, CONFIG_TRACING)",
        errno.ENODEV,
        errno.ENOENT,
        errno.EPERM,
    ),
}
