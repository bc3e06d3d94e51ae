# SPDX-License-Identifier: GPL-2.0-only
"""May the caller make the namespaces that cases live in, and if not, what forbids it?

Distributions restrict user namespaces in several ways. Some show when the namespace is made; under
Ubuntu's AppArmor it is made, and then its owner lacks every capability in it. So the question is
asked by doing what cases do: make one, and with its capabilities a mount namespace.
"""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable
from dataclasses import dataclass

from tests.utils.probes import seccomp, sysctl
from tests.utils.probes.probe import Missing
from tests.utils.tasks.process import ChildError, ChildKilled, in_child
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, effective_in_proc


@dataclass(frozen=True, slots=True)
class _Switch:
    """A sysctl that forbids namespaces when it has a certain value."""

    name: str
    forbids: str
    allows: str
    #: What the kernel says then.
    errnos: tuple[int, ...]


_REFUSED = (errno.EPERM, errno.EACCES)
_SWITCHES = (
    _Switch("user.max_user_namespaces", "0", "10000", (errno.ENOSPC,)),
    _Switch("user.max_mnt_namespaces", "0", "10000", (errno.ENOSPC,)),
    # Debian's; whoever lacks privilege in the initial user namespace counts, root elsewhere too.
    _Switch("kernel.unprivileged_userns_clone", "0", "1", _REFUSED),
    # Ubuntu's.
    _Switch("kernel.apparmor_restrict_unprivileged_userns", "1", "0", _REFUSED),
)


def _why(error: OSError | ChildError, limit: str) -> str:
    """What forbids it, as far as can be seen; *limit* counts what was to be made."""
    if not (sysctl.PROC / "self/ns/user").exists():
        return "the kernel has none (CONFIG_USER_NS)"
    number = error.errno if isinstance(error, OSError) else None
    for switch in _SWITCHES:
        if number in switch.errnos and sysctl.value(switch.name) == switch.forbids:
            return sysctl.is_too_low(switch.name, switch.allows)
    if number == errno.ENOSPC:
        return f"{limit} ({sysctl.value(limit) or 'its limit'}) is reached"
    if number in (errno.EPERM, errno.EACCES):
        return seccomp.why_refused() or "a security module or a chroot may be why"
    return "no known switch is why"


def _privileged() -> bool:
    return bool(effective_in_proc() >> CAP_SYS_ADMIN & 1)


def _enter_case() -> None:
    """Go where a case starts."""
    if not _privileged():
        enter_new_userns()
    enter_new_mount_ns()


def _become_foreign() -> None:
    _enter_case()
    enter_new_userns()


def _use_foreign() -> None:
    _become_foreign()
    enter_new_mount_ns()


def _nest() -> None:
    _become_foreign()
    enter_new_userns()


def _first_missing(*steps: tuple[Callable[[], None], str]) -> Missing | None:
    for step, cannot in steps:
        try:
            in_child(step)
        except (OSError, ChildError) as error:
            if isinstance(error, ChildKilled):
                return Missing(f"cannot {cannot}: it ends in {seccomp.why_killed(error)}")
            said = os.strerror(error.errno or 0) if isinstance(error, OSError) else str(error)
            of_mounts = cannot.startswith("make a mount namespace")
            limit = f"user.max_{'mnt' if of_mounts else 'user'}_namespaces"
            return Missing(f"cannot {cannot} ({said}): {_why(error, limit)}")
    return None


@functools.cache
def mount_ns_missing() -> Missing | None:
    """Return what keeps the caller from a mount namespace of its own, in a user namespace or
    without."""
    if _privileged():
        return _first_missing((_enter_case, "make a mount namespace"))
    missing = _first_missing(
        (enter_new_userns, "make a user namespace"),
        (_enter_case, "make a mount namespace in a user namespace"),
    )
    return missing and Missing(f"needs CAP_SYS_ADMIN or a user namespace; {missing.reason}")


@functools.cache
def userns_missing() -> Missing | None:
    """Return what keeps a case from user namespaces with all capabilities in them."""
    return mount_ns_missing() or _first_missing(
        (_become_foreign, "make a user namespace"),
        (_use_foreign, "make a mount namespace in a user namespace"),
    )


@functools.cache
def nested_userns_missing() -> Missing | None:
    """Return what keeps a case from a user namespace in one it has made."""
    return userns_missing() or _first_missing(
        (_nest, "make a user namespace in a user namespace"),
    )
