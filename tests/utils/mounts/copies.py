# SPDX-License-Identifier: GPL-2.0-only
"""A copy made by another task, so that the case itself stays on the owner's side of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.process import in_child
from tests.utils.uapi.constants import CLONE_NEWNS, CLONE_NEWUSER
from tests.utils.uapi.nsfs import ns_inode
from tests.utils.uapi.syscalls import setns

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Copy:
    """A new mount namespace, and the user namespace of the task that made it."""

    ns_fd: int
    userns_fd: int

    def inside(self, function: Callable[[], T]) -> T:
        """Return what *function* returns inside, as root of the maker's user namespace (in a
        child)."""

        def run() -> T:
            self.enter()
            return function()

        return in_child(run)

    def opened_inside(self, open_it: Callable[[], int]) -> int:
        """Return the descriptor that *open_it* returns inside, as root of the maker's user
        namespace; the task that opened it is gone."""

        def run() -> list[int]:
            self.enter()
            return [open_it()]

        return fds_from_child(run)[0]

    def enter(self) -> None:
        """Have the caller become root of the maker's user namespace, inside."""
        # Entering the user namespace one is in already is an error.
        if ns_inode(self.userns_fd) != ns_inode("/proc/self/ns/user"):
            setns(self.userns_fd, CLONE_NEWUSER)
        setns(self.ns_fd, CLONE_NEWNS)


def made_in_child(become: Callable[[], None], make: Callable[[], int]) -> Copy:
    """Have a child call *become* and then *make*, which returns a mount namespace.

    What the child raises is raised here.
    """

    def work() -> list[int]:
        become()
        return [make(), os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)]

    return Copy(*fds_from_child(work))
