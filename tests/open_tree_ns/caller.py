# SPDX-License-Identifier: GPL-2.0-only
"""The two kinds of caller that most rules tell apart."""

from __future__ import annotations

import enum

from tests.utils.tasks.userns import become_foreign


class Caller(enum.Enum):
    """The kinds of caller: its user namespace owns its mount namespace, or it does not."""

    OWNER = "owner"
    FOREIGN = "foreign"

    def act(self) -> None:
        """Become this caller, once the tree is built. Every case starts as the owner."""
        if self is Caller.FOREIGN:
            become_foreign()

    @property
    def foreign(self) -> bool:
        """True for the caller that does not own its mount namespace."""
        return self is Caller.FOREIGN
