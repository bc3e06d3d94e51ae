# SPDX-License-Identifier: GPL-2.0-only
"""What a failure is about, as data: the call, what was expected of it, and what came.

Made where a case fails (tests.utils.diagnosis), carried by its report, read by the digest
(tests.utils.report.digest). Standard library only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

#: What differs between two failures of one cause, and its place holder: paths and other texts,
#: numbers. The names of constants hold digits, too.
_PARTICULARS = (
    (re.compile(r"'[^']*'|\"[^\"]*\""), "'...'"),
    (re.compile(r"\b(?:0x[0-9a-f]+|\d+)\b"), "N"),
)
#: Characters of a field that are kept.
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Deviation:
    """The first thing that was not as a case expected it. Any field may be empty."""

    #: The call, spelt with the names of its flags.
    call: str = ""
    #: What was looked at after the call, where that is not how the call ended.
    aspect: str = ""
    expected: str = ""
    #: What came instead, as a phrase: "succeeded", "got EPERM", "found 3".
    came: str = ""
    #: The rule that says so, where a helper checks it for cases of any rule; of several that may be
    #: broken where it happens, all, with spaces between.
    rule: str = ""

    @property
    def line(self) -> str:
        """The whole in one line."""
        head = [part for part in (self.call, self.aspect) if part]
        wanted = f"expected {self.expected}, " if self.expected else ""
        return " ".join(": ".join([*head, f"{wanted}{self.came}"]).split())

    @property
    def cause(self) -> str:
        """The line without what differs between failures of one cause.

        A call that is refused when it should not be, or for another reason than it should, is one
        whatever its arguments.
        """
        if self.came.startswith("got E"):
            flag = " NAMESPACE" if "OPEN_TREE_NAMESPACE" in self.call else ""
            return f"{self.call.partition('(')[0]}{flag}: {self.came}"
        text = self.line
        for pattern, replacement in _PARTICULARS:
            text = pattern.sub(replacement, text)
        return text

    def dump(self) -> dict[str, str]:
        """Return the fields that are not empty, cut to a size that a report can carry."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: text[:_LONGEST] for name, text in found.items() if text}


class DeviationError(AssertionError):
    """Raised by helpers that check something for cases of any rule."""

    def __init__(self, message: str, deviation: Deviation) -> None:
        """*message* is the failure's text in full."""
        super().__init__(message)
        #: Read by tests.utils.diagnosis.
        self.deviation = deviation
