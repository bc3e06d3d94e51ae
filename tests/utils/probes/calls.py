# SPDX-License-Identifier: GPL-2.0-only
"""Are the calls let through that every kernel case makes beside open_tree(2)?

A container's filter may know open_tree(2) and not the calls that came after it: then each case
would fail, for a fault of nobody's. They are asked as the flag is, with arguments that no kernel
takes, so that nothing is done: what knows the call says EFAULT, EINVAL or EBADF. A kernel with the
flag has them all.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from ctypes import c_long

from tests.utils.probes import emulation, seccomp
from tests.utils.probes.probe import Missing
from tests.utils.tasks.process import ChildError, ChildKilled, in_child
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.uapi.syscalls import (
    NR_FSCONFIG,
    NR_FSMOUNT,
    NR_FSOPEN,
    NR_LISTMOUNT,
    NR_MOUNT_SETATTR,
    NR_MOVE_MOUNT,
    NR_STATMOUNT,
    syscall,
)

#: The calls, with as many arguments as they have; all are -1 or NULL.
_CALLS = {
    "statmount": (NR_STATMOUNT, 0, 0, 0, 0),
    "listmount": (NR_LISTMOUNT, 0, 0, 0, 0),
    "fsopen": (NR_FSOPEN, 0, 0),
    "fsconfig": (NR_FSCONFIG, -1, 0, 0, 0, 0),
    "fsmount": (NR_FSMOUNT, -1, 0, 0),
    "move_mount": (NR_MOVE_MOUNT, -1, 0, -1, 0, 0),
    "mount_setattr": (NR_MOUNT_SETATTR, -1, 0, 0, 0, 0),
}
_REFUSED = (errno.ENOSYS, errno.EPERM, errno.EACCES)


def _errno_of(name: str) -> int:
    number, *arguments = _CALLS[name]
    try:
        syscall(name, number, *map(c_long, arguments))
    except OSError as error:
        return error.errno or 0
    return 0


def _answers() -> dict[str, int]:
    return {name: _errno_of(name) for name in _CALLS}


def _asked(function: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return what *function* does, where all calls are allowed that the kernel allows to its owner.

    Empty where there is no namespace to ask in: that is told elsewhere.
    """
    try:
        return in_child(in_own_mount_ns(function))
    except (OSError, ChildError) as error:
        if seccomp.killed_by_filter(error):
            raise
        return {}


def _killed_for(name: str) -> bool:
    try:
        _asked(lambda: {name: _errno_of(name)})
    except ChildKilled:
        return True
    return False


@functools.cache
def missing() -> Missing | None:
    """Return which of the calls are not let through, None where all are."""
    try:
        answers = _asked(_answers)
    except ChildKilled as error:
        killing = [f"{name}(2)" for name in _CALLS if _killed_for(name)]
        return Missing(f"{', '.join(killing)} ended in {seccomp.why_killed(error)}")
    refused = {name: number for name, number in answers.items() if number in _REFUSED}
    if not refused:
        return None
    names = ", ".join(f"{name}(2) gave {errno.errorcode[refused[name]]}" for name in refused)
    if why := seccomp.why_refused() or emulation.why():
        return Missing(f"{names}: {why}")
    return Missing(f"{names}, though the kernel has the flag, which is younger", broken=True)
