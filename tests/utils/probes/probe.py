# SPDX-License-Identifier: GPL-2.0-only
"""How a feature is asked for, and what the end of a probe says.

A probe runs in a forked child, in a mount namespace of its own (and in a user namespace where the
caller is not privileged), so that nothing of it stays. It returns None, or what is missing: absent,
when the answer is one that a kernel without the feature gives, or else broken.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.utils.probes import seccomp, sysctl
from tests.utils.tasks.process import ChildError, ChildKilled, in_child
from tests.utils.tasks.userns import in_own_mount_ns


@dataclass(frozen=True, slots=True)
class Missing:
    """What is missing, as a sentence."""

    reason: str
    #: The kernel has something by that name, and it does not do what it should: that is a failure
    #: of the kernel, and no reason to skip.
    broken: bool = False


def ask(
    function: Callable[[], object], what: str, absent: tuple[int, ...], limits: Mapping[int, str]
) -> Missing | None:
    """Run a probe: None when it succeeds; *what* is missing when it ends in an errno of *absent*,
    not to be had when *limits* has a sysctl for the errno, and broken when it ends in any other
    way."""
    try:
        in_child(in_own_mount_ns(function))
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, str(error.errno))
        if limit := limits.get(error.errno or 0):
            return Missing(f"no room for {what}: it gave {name}, and {sysctl.is_too_low(limit)}")
        if error.errno in absent:
            return Missing(f"kernel has no {what} (the probe gave {name})")
        return Missing(
            f"the probe for {what} gave {name} ({error}), which is not how a kernel without it "
            "answers",
            broken=True,
        )
    except ChildKilled as error:
        # A filter that kills is the machine's; whatever else does may be the kernel's fault.
        return Missing(
            f"the probe for {what} ended in {seccomp.why_killed(error)}",
            broken=not seccomp.killed_by_filter(error),
        )
    except ChildError as error:
        return Missing(f"the probe for {what} failed: {error}", broken=True)
    return None


#: Says what is missing, or None.
Probe = Callable[[], Missing | None]


def probe(
    function: Callable[[], object], what: str, *absent: int, limits: Mapping[int, str] = {}
) -> Probe:
    """Return what runs the probe *function* once and says each time what :func:`ask` said of it."""
    return functools.cache(functools.partial(ask, function, what, absent, limits))
