# SPDX-License-Identifier: GPL-2.0-only
"""Does this kernel have the flag? A question without side effects, asked once.

open_tree(2) checks its flags before anything else but the descriptor table, then privilege, then
the path. With a NULL path the errno therefore tells how far the kernel got: EINVAL is an unknown
flag; EPERM and EFAULT mean that it is known. Nothing is ever created. After a yes, EINVAL from
any case is a failure and never read as "not supported".

A no is asked for once more, in a child with a mount namespace of its own: a kernel that copies a
directory has the flag, whatever it makes of NULL.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from enum import Enum

from tests.utils.constants import AT_EMPTY_PATH, AT_FDCWD, OPEN_TREE_NAMESPACE
from tests.utils.process import ChildError, in_child
from tests.utils.syscalls import open_tree
from tests.utils.trees import fresh_tmpfs
from tests.utils.userns import in_own_mount_ns


class Support(Enum):
    """What the probe found."""

    PRESENT = "present"
    ABSENT = "absent"
    #: Something else answered in the kernel's place: a seccomp filter, or a full descriptor table.
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Probe:
    """The probe's answer and the errno it rests on."""

    support: Support
    errno: int

    @property
    def errno_name(self) -> str:
        """The symbolic name of the errno."""
        return errno.errorcode.get(self.errno, str(self.errno))

    @property
    def reason(self) -> str:
        """The answer as a sentence, fit for a skip reason or a report header."""
        what = f"open_tree(OPEN_TREE_NAMESPACE) on a NULL path gave {self.errno_name}"
        if self.support is Support.PRESENT and self.errno == errno.EINVAL:
            return f"kernel has OPEN_TREE_NAMESPACE (it copies a directory, though {what})"
        if self.support is Support.PRESENT:
            return f"kernel has OPEN_TREE_NAMESPACE ({what})"
        if self.support is Support.ABSENT:
            return f"kernel has no OPEN_TREE_NAMESPACE ({what}); it came with Linux 7.0"
        return f"cannot tell whether the kernel has OPEN_TREE_NAMESPACE ({what})"


_MEANING = {
    errno.EFAULT: Support.PRESENT,
    errno.EPERM: Support.PRESENT,
    errno.EINVAL: Support.ABSENT,
    errno.ENOSYS: Support.ABSENT,
}
#: No kernel knows this bit, so that every kernel with the call answers EINVAL.
_UNKNOWN_FLAG = 1 << 30


def _errno_of(flags: int) -> int:
    try:
        open_tree(AT_FDCWD, None, flags)
    except OSError as error:
        return error.errno or 0
    raise AssertionError(f"open_tree(flags {flags:#x}) on a NULL path returned a descriptor")


def _copies_a_directory() -> bool:
    try:
        in_child(in_own_mount_ns(_copy_a_directory))
    except (OSError, ChildError):
        return False
    return True


def _copy_a_directory() -> None:
    open_tree(fresh_tmpfs(), "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH)


@functools.cache
def probe() -> Probe:
    """Ask the running kernel, once per process."""
    number = _errno_of(OPEN_TREE_NAMESPACE)
    if number == errno.EPERM and _errno_of(_UNKNOWN_FLAG) == errno.EPERM:
        # Flags are checked before privilege: a filter answered, not the kernel.
        return Probe(Support.UNCLEAR, number)
    if number == errno.EINVAL and _copies_a_directory():
        return Probe(Support.PRESENT, number)
    return Probe(_MEANING.get(number, Support.UNCLEAR), number)
