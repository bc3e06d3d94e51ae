# SPDX-License-Identifier: GPL-2.0-only
"""fsmount(2) with FSMOUNT_NAMESPACE: a new file system becomes a mount namespace of its own.

What is made is like what the flag makes of a tree of one mount; test_neighbours.py has where the
two meet.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import enter_top
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.limits import allow_mnt_namespaces, descriptor_table_full, open_limit
from tests.utils.mounts.settle import settled
from tests.utils.mounts.trees import created, tmpfs
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget, effective
from tests.utils.uapi.constants import (
    CLONE_NEWNS,
    FSMOUNT_CLOEXEC,
    FSMOUNT_NAMESPACE,
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    Fsmount,
    MountAttr,
)
from tests.utils.uapi.nsfs import (
    current_mnt_ns,
    listns,
    mnt_get_info,
    ns_get_nstype,
    ns_get_userns,
    ns_id,
    ns_inode,
)
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import fsmount, fsopen, setns

pytestmark = pytest.mark.needs("FSMOUNT_NAMESPACE")

MAKE = FSMOUNT_NAMESPACE | FSMOUNT_CLOEXEC
PRIVILEGED = 1 << CAP_SYS_ADMIN


@pytest.mark.rule("M4", "M5")
@pytest.mark.parametrize(
    ("flags", "namespace"),
    [
        pytest.param(
            flags,
            namespace,
            id=name,
            marks=pytest.mark.upstream(
                f"fsmount_ns.{name}.create_namespace",
                f"fsmount_ns.{name}.setns_into_namespace",
                f"fsmount_ns.{name}.verify_mount_properties",
                f"fsmount_ns.{name}.verify_tmpfs_type",
            ),
        )
        for name, flags, namespace in (
            ("basic_tmpfs", MAKE, True),
            ("cloexec_only", FSMOUNT_CLOEXEC, False),
            ("namespace_only", FSMOUNT_NAMESPACE, True),
        )
    ],
)
def test_what_is_made(flags: Fsmount, namespace: bool, scratch: Path) -> None:
    """With FSMOUNT_NAMESPACE the descriptor is a new mount namespace's, of the new mount alone,
    which can be entered; without it that of a detached mount. It is closed on exec when asked."""
    here, before = current_mnt_ns(), mount_table()
    fd = fsmount(created(), flags)

    assert mount_table() == before
    assert os.get_inheritable(fd) == (FSMOUNT_CLOEXEC not in flags)
    if not namespace:
        assert stat.S_ISDIR(os.fstat(fd).st_mode)
        assert outcome(setns, fd, CLONE_NEWNS) == "EBADF"
        return
    assert ns_get_nstype(fd) == CLONE_NEWNS
    assert ns_id(fd) > ns_id(here)
    assert os.readlink(f"/proc/self/fd/{fd}") == f"mnt:[{os.fstat(fd).st_ino}]"
    assert ns_inode(ns_get_userns(fd)) == ns_inode("/proc/self/ns/user")
    (top,) = mount_table(ns_fd=fd)
    assert (top.fs_type, top.mnt_root, top.mnt_point) == ("tmpfs", "/", "/")
    assert (top.mnt_propagation, top.mnt_attr) == (MS_PRIVATE, 0)
    assert mnt_get_info(fd).nr_mounts == 1
    assert enter_top(fd) == top.mnt_id
    assert os.listdir("/") == []


@pytest.mark.rule("M4")
@pytest.mark.needs("sight of all namespaces", "listns")
@pytest.mark.isolated(pid_namespace=False)
def test_listed_like_any_other(scratch: Path) -> None:
    """It is listed from when it is made until its last descriptor is closed, and its id is larger
    than those before."""
    fds = [fsmount(created(), MAKE) for _ in range(2)]
    ids = [ns_id(fd) for fd in fds]
    assert ids == sorted(ids)

    def listed() -> list[int]:
        return [number for number in listns() if number in ids]

    assert listed() == ids
    os.close(fds[0])
    assert settled(listed, ids[1:]) == ids[1:]


#: What the attributes of a mount may be, each alone but for the modes of access time.
ATTRIBUTES = (
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_STRICTATIME,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOATIME,
)


@pytest.mark.rule("M5")
@pytest.mark.upstream(
    "fsmount_ns_mount_attrs.readonly",
    "fsmount_ns_mount_attrs.noexec",
    "fsmount_ns_mount_attrs.nosuid",
    "fsmount_ns_mount_attrs.noatime",
    "fsmount_ns_mount_attrs.combined",
)
def test_attributes(caller: Caller) -> None:
    """The mount has the attributes asked for and no others; two modes of access time at once, a
    mode that does not exist, and MOUNT_ATTR_IDMAP are EINVAL, before the descriptor is looked at.
    """
    contexts = [created() for _ in ATTRIBUTES]
    caller.act()

    found = {
        attr: mount_table(ns_fd=fsmount(fs, MAKE, attr))[0].mnt_attr
        for fs, attr in zip(contexts, ATTRIBUTES, strict=True)
    }
    refused = [
        MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME,
        MountAttr(MOUNT_ATTR__ATIME & ~(MOUNT_ATTR_NOATIME | MOUNT_ATTR_STRICTATIME)),
        MOUNT_ATTR_IDMAP,
    ]
    ends = {attr: outcome(fsmount, -1, MAKE, attr) for attr in refused}

    assert found == {attr: attr for attr in ATTRIBUTES}
    assert ends == dict.fromkeys(refused, "EINVAL")


@pytest.mark.rule("M3")
@pytest.mark.upstream("fsmount_ns_caps.requires_cap_sys_admin")
def test_each_capability(caller: Caller) -> None:
    """Of all capabilities in the caller's user namespace CAP_SYS_ADMIN alone decides, EPERM without
    it; over the mount namespace none is asked for, as it is without FSMOUNT_NAMESPACE."""
    caller.act()
    caps = [cap for cap in range(64) if capget().permitted >> cap & 1]
    everything = sum(1 << cap for cap in caps)

    def end_with(mask: int, flags: Fsmount = MAKE) -> Outcome:
        with effective(mask):
            return outcome(fsmount, -1, flags)  # EBADF: that it may is found first

    found = {
        "alone": {cap: end_with(1 << cap) for cap in caps},
        "all others": {cap: end_with(everything & ~(1 << cap)) for cap in caps},
        "a mount": end_with(everything, FSMOUNT_CLOEXEC),
    }

    rest = [cap for cap in caps if cap != CAP_SYS_ADMIN]
    assert found == {
        "alone": {**dict.fromkeys(rest, "EPERM"), CAP_SYS_ADMIN: "EBADF"},
        "all others": {**dict.fromkeys(rest, "EBADF"), CAP_SYS_ADMIN: "EPERM"},
        "a mount": "EPERM" if caller.foreign else "EBADF",
    }


#: The rule: reasons to refuse, the first checked first, and the errno of each.
ORDER = {
    "unknown flag": "EINVAL",
    "no CAP_SYS_ADMIN": "EPERM",
    "unknown attribute": "EINVAL",
    "closed descriptor": "EBADF",
    "no context": "EINVAL",
    "not created": "EINVAL",
    "in use": "EBUSY",
    "full descriptor table": "EMFILE",
    "limit of namespaces": "ENOSPC",
}
ARGUMENTS = ("unknown flag", "no CAP_SYS_ADMIN", "unknown attribute")
CONTEXTS = ("closed descriptor", "no context", "not created", "in use", None)
RESOURCES = ("full descriptor table", "limit of namespaces")


def subsets(names: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Return every choice of *names*."""
    counts = range(len(names) + 1)
    return itertools.chain.from_iterable(itertools.combinations(names, n) for n in counts)


def end_with(faults: frozenset[str | None], contexts: dict[str | None, int]) -> Outcome:
    """Make a call with these faults (but for the limit), of a new context where none is bad."""
    fs = next((contexts[fault] for fault in CONTEXTS if fault in faults and fault), 0)
    with contextlib.ExitStack() as stack:
        fs = fs or stack.enter_context(os.fdopen(created(), "rb", closefd=True)).fileno()
        stack.enter_context(effective(0 if "no CAP_SYS_ADMIN" in faults else PRIVILEGED))
        if "full descriptor table" in faults:
            stack.enter_context(descriptor_table_full())
        end = outcome(
            fsmount,
            fs,
            MAKE | (1 << 30 if "unknown flag" in faults else 0),
            1 << 30 if "unknown attribute" in faults else 0,
        )
    if isinstance(end.result, int):
        os.close(end.result)
    return end


@pytest.mark.rule("M1")
@pytest.mark.needs("user namespace", "sysctl")
def test_order_of_checks() -> None:
    """Of several reasons to refuse the call, every combination of the arguments', of the context's
    and of what there is room for, the first in the order wins."""
    enter_new_userns()
    enter_new_mount_ns()
    contexts: dict[str | None, int] = {
        "closed descriptor": 1 << 20,
        "no context": os.open("/", os.O_RDONLY),
        "not created": fsopen("tmpfs"),
        "in use": created(),
    }
    fsmount(contexts["in use"])
    limit = open_limit()
    found, rule = {}, {}
    for resources in subsets(RESOURCES):
        allow_mnt_namespaces(0 if "limit of namespaces" in resources else 1000, limit)
        for arguments in subsets(ARGUMENTS if not resources else ()):
            for context in CONTEXTS:
                faults = frozenset((*arguments, context, *resources))
                names = " + ".join(fault for fault in ORDER if fault in faults)
                found[names] = end_with(faults, contexts)
                rule[names] = next((ORDER[fault] for fault in ORDER if fault in faults), "success")

    assert found == rule


@pytest.mark.rule("M1")
@pytest.mark.needs("FUSE", "user namespace", "sysctl")
@fixes.DIRECTORIES_ONLY
def test_root_that_is_no_directory() -> None:
    """A file system whose root is a regular file makes no namespace: ENOTDIR, after a full
    descriptor table and before the limit of namespaces."""
    enter_new_userns()
    enter_new_mount_ns()

    def file_system() -> int:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        return created("fuse", fd=device, rootmode="100000", user_id=0, group_id=0)

    first, second, third = file_system(), file_system(), file_system()
    with descriptor_table_full():
        full = outcome(fsmount, first, MAKE)
    free = outcome(fsmount, second, MAKE)
    allow_mnt_namespaces(0)
    limited = outcome(fsmount, third, MAKE)

    assert (full, free, limited) == ("EMFILE", "ENOTDIR", "ENOTDIR")


@pytest.mark.rule("M4")
def test_chrooted_caller(scratch: Path) -> None:
    """A chrooted caller may make one, and stands on its root when it has entered."""
    fs = created()
    os.chroot(tmpfs(scratch / "root"))
    fd = fsmount(fs, MAKE)
    assert enter_top(fd) == mount_table(ns_fd=fd)[0].mnt_id
