# SPDX-License-Identifier: GPL-2.0-only
"""Room for what a case has at once, within limits that the machine sets and no case may change.

Namespaces are counted by trying (what is taken already can be read nowhere), mounts and file
descriptors by their limits.
"""

from __future__ import annotations

import errno
import functools
import resource
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.probes import sysctl
from tests.utils.tasks.process import ChildError, in_child
from tests.utils.tasks.userns import enter_new_userns, in_own_mount_ns
from tests.utils.uapi.constants import AT_EMPTY_PATH, OPEN_TREE_CLOEXEC, OPEN_TREE_CLONE
from tests.utils.uapi.syscalls import open_tree

#: What each kernel case has at most, if it asks for no more: namespaces of mounts, its own
#: included, and mounts in one of them besides those it began with.
USUAL = {"mount_namespaces": 12, "mounts": 64}
#: The same of user namespaces, for a case that needs any: it is late that the kernel frees those of
#: the cases before.
USER_NAMESPACES = 8
_OWN_MOUNTS = Path("/proc/self/mountinfo")


def raise_descriptor_limit() -> None:
    """Let the calling process have as many descriptors as it may: soft limit to hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _fill(count: int) -> int:
    """How many mount namespaces the caller can have, its own included; at most *count*."""
    raise_descriptor_limit()
    made = 1
    try:
        tree = fresh_tmpfs()
        made = 2  # a tree that is mounted nowhere counts as one
        while made < count:
            open_tree(tree, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH)
            made += 1
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return count  # something else is in the way, and told elsewhere
    return made


@functools.cache
def _free_mount_namespaces(count: int) -> int:
    """How many mount namespaces a case can have, at most *count*."""
    try:
        return in_child(in_own_mount_ns(functools.partial(_fill, count)))
    except OSError as error:
        return 0 if error.errno == errno.ENOSPC else count
    except ChildError:
        return count


def _lacks_mount_namespaces(count: int) -> str:
    free = _free_mount_namespaces(count)
    if free >= count:
        return ""
    why = sysctl.is_too_low("user.max_mnt_namespaces")
    return f"{count} mount namespaces, and has room for {free}: {why}"


def _nest(count: int) -> int:
    """How many user namespaces the caller can make, one in another; at most *count*."""
    for made in range(count):
        try:
            enter_new_userns()
        except OSError as error:
            return made if error.errno == errno.ENOSPC else count  # else told elsewhere
    return count


@functools.cache
def _lacks_user_namespaces(count: int) -> str:
    try:
        free = in_child(functools.partial(_nest, count))
    except (OSError, ChildError):
        return ""
    if free >= count:
        return ""
    why = sysctl.is_too_low("user.max_user_namespaces")
    return f"{count} user namespaces, and has room for {free}: {why}"


@functools.cache  # two files to read, for each case again
def _lacks_mounts(count: int) -> str:
    limit = sysctl.value("fs.mount-max")
    try:
        taken = len(_OWN_MOUNTS.read_bytes().splitlines())
    except OSError:
        return ""
    if not limit or taken + count <= int(limit):
        return ""
    why = sysctl.is_too_low("fs.mount-max", 100000)
    return f"{count} mounts in a namespace besides the {taken} it begins with: {why}"


def _lacks_descriptors(count: int) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard in (resource.RLIM_INFINITY, -1) or hard >= count:
        return ""
    return (
        f"{count} file descriptors: the hard limit (RLIMIT_NOFILE) is {hard}; ulimit -n {count} "
        "by root allows it"
    )


#: What there may have to be room for -> says what is lacking for so many, empty for nothing.
KINDS: dict[str, Callable[[int], str]] = {
    "mount_namespaces": _lacks_mount_namespaces,
    "user_namespaces": _lacks_user_namespaces,
    "mounts": _lacks_mounts,
    "descriptors": _lacks_descriptors,
}


def lacking(wanted: Mapping[str, int]) -> str:
    """Return why there is no room for what is *wanted* (kind -> how many), empty where there is."""
    for kind, count in wanted.items():
        if reason := KINDS[kind](count):
            return f"needs room for {reason}"
    return ""
