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
    #: With --fail-uncovered: a line of the patch did not run.
    UNCOVERED = 5
    RUN_LIMIT = 124
    #: The kernel could not be built or booted.
    NOT_BOOTED = 125
    #: With --build: no commit can be judged, this one or another.
    NO_BISECTION = 128
    INTERRUPTED = 130


def for_bisect(status: int) -> Exit:
    """Return *status* as it is to be when the kernel was built for this run.

    `git bisect run` takes every status from 1 to 127 but 125 for "this commit is bad", and would
    blame a commit for a full disk, a mistyped option or a kernel without the feature. What says
    nothing of this commit is 125, "skip". What would be the same at each commit is 128, with which
    git ends the bisection: else it would skip all of them, and say so at the end. A guest that
    hangs until the run limit is a bad commit: a case that merely takes long is ended by pytest's
    own, much shorter, limit. An interruption stays above 127, too: whoever interrupts does not ask
    for the next commit.
    """
    match status:
        case Exit.OK | Exit.UNCOVERED | Exit.INTERRUPTED:
            return Exit(status)
        case Exit.FAILED | Exit.RUN_LIMIT:
            return Exit.FAILED
        case Exit.USAGE | Exit.HOST:
            return Exit.NO_BISECTION
        case _:
            return Exit.NOT_BOOTED


class Problem(Exception):
    """Something the user can put right: what is wrong, on what; then, on a line of its own,
    "hint: " and what to do."""

    def __init__(self, message: str, status: Exit = Exit.HOST) -> None:
        super().__init__(message)
        self.status = status

    @property
    def what(self) -> str:
        """What is wrong, on what: the message without the hint."""
        return str(self).partition("\nhint: ")[0]

    @property
    def hint(self) -> str:
        """What to do about it, empty where the message does not say."""
        return str(self).partition("\nhint: ")[2]


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; not an Exception, so that nothing swallows it."""
