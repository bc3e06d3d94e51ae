# SPDX-License-Identifier: GPL-2.0-only
"""How a run can end, as exit statuses, and the one exception that carries a user's problem.

The numbers follow what scripts already understand: kselftest's 4 for "nothing was tested",
timeout(1)'s 124, and 125, which `git bisect run` reads as "skip this commit".
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of the launcher."""

    OK = 0
    #: A case failed, or the kernel crashed or complained.
    FAILED = 1
    USAGE = 2
    #: The host cannot do it: a program is missing, an image is bad, the disk is full.
    HOST = 3
    #: Nothing was tested: the kernel lacks the feature, or no case was selected.
    NOTHING = 4
    RUN_LIMIT = 124
    NOT_BOOTED = 125
    INTERRUPTED = 130


class Problem(Exception):
    """Something the user can put right: one sentence that says what, on what, and what to do."""

    def __init__(self, message: str, status: Exit = Exit.HOST) -> None:
        super().__init__(message)
        self.status = status


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; not an Exception, so that nothing swallows it."""
