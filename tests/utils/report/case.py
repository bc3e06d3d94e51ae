# SPDX-License-Identifier: GPL-2.0-only
"""What became of a case, in the words that every report of this project is made from.

vm/RESULTS.md has the table of what each report says of each outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

#: How a case can end. "error" is all that is no answer to the case's question: a broken set-up or
#: tear-down, a module that cannot be collected, a death by signal, no end at all.
OUTCOMES = ("passed", "failed", "error", "timeout", "skipped", "xfailed", "xpassed")
#: Those that make a run fail.
BAD = frozenset(["failed", "error", "timeout"])
#: How pytest begins the reason of a case that failed because it passed, and was not to.
STRICT_XPASS = "[XPASS(strict)]"


@dataclass(frozen=True)
class Case:
    """One case and how it ended. *outcome* is one of OUTCOMES."""

    id: str
    outcome: str
    #: Why it was skipped or expected to fail; the error's own words for a failure.
    reason: str = ""
    #: Seconds, set-up and tear-down included.
    duration: float = 0.0
    #: pytest's full text of the failure.
    text: str = ""
    #: Captured output and notes: title -> text.
    sections: dict[str, str] = field(default_factory=dict)
    markers: dict[str, list[Any]] = field(default_factory=dict)
    #: What the case has recorded by pytest's ``record_property``.
    properties: dict[str, Any] = field(default_factory=dict)
    #: What the kernel said that it was failed for: the messages that are complaints.
    complaints: list[str] = field(default_factory=list)
    #: What a failure is about: the fields of a tests.utils.deviation.Deviation.
    deviation: dict[str, str] = field(default_factory=dict)
    #: Whether the run was lost before it came to the case, of which there is nothing to say.
    unreached: bool = False

    @property
    def bad(self) -> bool:
        """Whether it makes the run fail."""
        return self.outcome in BAD

    @property
    def headline(self) -> str:
        """The reason's first line."""
        return self.reason.partition("\n")[0]

    @property
    def story(self) -> str:
        """All there is to say of a failure: its text, and the sections after it."""
        parts = [self.text] if self.text else []
        parts += [f"--- {title} ---\n{text.rstrip()}" for title, text in self.sections.items()]
        return "\n".join(parts)
