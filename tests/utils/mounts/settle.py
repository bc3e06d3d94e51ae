# SPDX-License-Identifier: GPL-2.0-only
"""Look again at what other programs of the machine may hold on to for a moment.

Whoever looks at a mount namespace holds it meanwhile: the descriptor that NS_MNT_GET_NEXT returns,
and every open /proc/PID/mountinfo (lsns(8), findmnt(8), agents that monitor, another run of this
suite). So a namespace may be there, be listed and be counted for a moment longer than the case
holds it. What the kernel leaks stays, and is not a matter of patience.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from typing import TypeVar

from tests.utils.uapi.nsfs import exists, ns_id

T = TypeVar("T")

#: How long others may look at one thing, in seconds.
_TIMEOUT = 2.0
_INTERVAL = 0.01


def settled(look: Callable[[], T], expected: object) -> T:
    """Return what *look* returns, as soon as it is *expected*; after two seconds, whatever it is.

    For an expectation that others delay, and never bring about.
    """
    until = time.monotonic() + _TIMEOUT
    while (found := look()) != expected and time.monotonic() < until:
        time.sleep(_INTERVAL)
    return found


def gone(*mnt_ns_ids: int) -> bool:
    """Return whether no mount namespace has such an id once others have had their look at it."""
    return not settled(lambda: any(map(exists, mnt_ns_ids)), False)


def let_go(fd: int) -> None:
    """Close *fd*, the caller's last hold on a mount namespace, and wait until others let go of it:
    only then are its mounts unmounted."""
    number = ns_id(fd)
    os.close(fd)
    gone(number)


def within_limit(make: Callable[[], T]) -> T:
    """Return what *make* makes, which was refused with ENOSPC while others held what is gone.

    :raises OSError: those of *make*; ENOSPC after two seconds.
    """
    until = time.monotonic() + _TIMEOUT
    while True:
        try:
            return make()
        except OSError as error:
            if error.errno != errno.ENOSPC or time.monotonic() >= until:
                raise
        time.sleep(_INTERVAL)


# Texts name the call that is made (see tests.utils.expect).
within_limit.spell = lambda make: make  # type: ignore[attr-defined]
