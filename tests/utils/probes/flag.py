# SPDX-License-Identifier: GPL-2.0-only
"""Does this kernel have the flag? A question without side effects, asked once.

open_tree(2) checks its flags before anything else but the descriptor table, then privilege, then
the path. With a NULL path the errno therefore tells how far the kernel got: EINVAL is an unknown
flag; EPERM and EFAULT mean that it is known. Nothing is ever created. After a yes, EINVAL from
any case is a failure and never read as "not supported".

It is asked in a child: a filter of system calls (seccomp) may kill whoever makes the call.

A no is asked for once more, in a child with a mount namespace of its own: a kernel that copies a
directory has the flag, whatever it makes of NULL.
"""

from __future__ import annotations

import errno
import functools
from dataclasses import dataclass
from enum import Enum

from tests.utils.mounts.trees import fresh_tmpfs
from tests.utils.probes import emulation, seccomp
from tests.utils.tasks.process import ChildError, ChildKilled, in_child
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.uapi.constants import AT_EMPTY_PATH, AT_FDCWD, OPEN_TREE_NAMESPACE
from tests.utils.uapi.syscalls import open_tree


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
    #: How the call ended, where the errno does not say it all.
    how: str = ""

    @property
    def errno_name(self) -> str:
        """The symbolic name of the errno."""
        return errno.errorcode.get(self.errno, str(self.errno))

    @property
    def reason(self) -> str:
        """The answer as a sentence, fit for a skip reason or a report header."""
        how = self.how or f"gave {self.errno_name}"
        what = f"open_tree(OPEN_TREE_NAMESPACE) on a NULL path {how}"
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


def _errnos() -> tuple[int, int]:
    """The errno of the flag, and that of a flag no kernel has where it can tell more."""
    number = _errno_of(OPEN_TREE_NAMESPACE)
    return number, _errno_of(_UNKNOWN_FLAG) if number == errno.EPERM else 0


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
    try:
        number, of_unknown = in_child(_errnos)
    except ChildKilled as error:
        return Probe(Support.UNCLEAR, 0, f"ended in {seccomp.why_killed(error)}")
    except OSError as error:
        # No room for a pipe, or for a process: the call has not been made.
        how = f"was not asked: no child process ({error.strerror})"
        return Probe(Support.UNCLEAR, error.errno or 0, how)
    if of_unknown == errno.EPERM or (number == errno.ENOSYS and seccomp.in_force()):
        # Flags are checked before privilege, and the call is older than the flag by years: a filter
        # answered, not the kernel.
        why = seccomp.why_refused()
        how = f"gave {errno.errorcode[number]}; {why}" if why else ""
        return Probe(Support.UNCLEAR, number, how)
    if _MEANING.get(number) is Support.ABSENT and emulation.why():
        return Probe(Support.UNCLEAR, number, f"gave {errno.errorcode[number]}; {emulation.why()}")
    if number == errno.EINVAL and _copies_a_directory():
        return Probe(Support.PRESENT, number)
    return Probe(_MEANING.get(number, Support.UNCLEAR), number)
