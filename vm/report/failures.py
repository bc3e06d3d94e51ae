# SPDX-License-Identifier: GPL-2.0-only
"""What is printed of the cases that failed: a line each, and not more than a screen takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tests.utils.deviation import Deviation
from tests.utils.report import digest_text
from tests.utils.report.case import Case

#: Cases that are named, and lines of the story of one that checks no rule: a broken module, say.
_CASES, _STORY = 10, 12
#: The head of a section of pytest's last part, and those that a line a case takes the place of.
_HEAD = re.compile(r"=+ (?P<title>[^=].*?) =+")
_TOLD = ("FAILURES", "ERRORS")
_SUMMARY = "short test summary info"
_COLOUR = re.compile(r"\x1b\[[\d;]*m")


def lines(cases: Sequence[Case], width: int) -> Iterator[str]:
    """Yield a line for each case that failed; of many, for the first."""
    bad = [case for case in cases if case.bad and not case.unreached]
    for case in bad[:_CASES]:
        head = f"{case.outcome.upper()} {case.id}"
        said = Deviation(**case.deviation).line if case.deviation else case.headline
        room = max(40, width - len(head) - 3)
        yield f"{head} - {digest_text.brief(said, room)}" if said else head
        if "rule" not in case.markers:
            yield from case.story.splitlines()[-_STORY:]
    if len(bad) > _CASES:
        yield f"... and {len(bad) - _CASES} more (all with -v, and in results.ktap)"


def without_failures(text: str) -> str:
    """Return pytest's last part without what it has to say of each failure."""
    kept: list[str] = []
    section = ""
    for line in text.split("\n"):
        plain = _COLOUR.sub("", line)
        if head := _HEAD.fullmatch(plain):
            section = head["title"]
            if section in (*_TOLD, _SUMMARY):
                continue
        if section in _TOLD or (
            section == _SUMMARY and re.match("(FAILED|ERROR|SUBFAILED)", plain)
        ):
            continue
        kept.append(line)
    return "\n".join(kept)
