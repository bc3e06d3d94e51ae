# SPDX-License-Identifier: GPL-2.0-only
"""Recognises what the kernel says when something is wrong with it, in its log or on its console.

Only the beginning of a message counts: a line such as "Spectre V2 : WARNING: ..." is advice, not a
report. The texts are those of kernel/panic.c, lib/bug.c, lib/ubsan.c, lib/refcount.c, lockdep,
mm/kasan, mm/kfence, mm/kmemleak.c, kernel/kcsan, kernel/hung_task.c, kernel/rcu/tree_stall.h,
fs/super.c and the fault handlers of the architectures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_COMPLAINT = re.compile(
    r"""(?x)^(?:
    # WARN() and VFS_WARN_ON(); since lockdep has no other beginning, its reports and RCU's too.
    WARNING:
    # BUG(), KASAN, KCSAN, KFENCE, KMSAN, bad pages, sleeping in atomic context, soft lockups.
    | (?:[\w-]+:\ )?BUG\b | =*\[?\ BUG: | kernel\ BUG\ at
    | Kernel\ panic | (?:Internal\ error:\ )?Oops\b | .*:\ [0-9a-f]+\ \[\#\d+\]
    | general\ protection\ fault | Unable\ to\ handle | Kernel\ attempted\ to
    | (?:rcu:\ )?INFO:\ (?:task\ .*\ blocked | rcu_\S+\ .*(?:detected|stall))
    | INFO:\ (?:trying\ to\ register\ non-static|lockdep\ is\ turned\ off)
    | (?:\[?\ ?INFO:\ )?(?:suspicious\ RCU\ usage | inconsistent\ .*lock
        | possible\ (?:circular|recursive|irq)\ .*(?:lock|detected))
    | UBSAN: | kmemleak:\ \d+\ new | refcount_t: | (?:list_add|list_del)\ corruption
    # A mount or a file outlived its file system.
    | VFS:\ Busy\ inodes
    )"""
)
#: What begins like a complaint and is advice on configuration or firmware.
_HARMLESS = (
    "WARNING: 'bootconfig' found on the kernel command line",
    "WARNING: BIOS bug:",
    "WARNING: Flushing system-wide workqueues",
    "WARNING: polling idle and HT enabled",
)
#: Follows in every report that was made on behalf of a process.
_TASK = "Comm: "
#: Goes on with a report that has begun.
_DIE = re.compile(r"(?:Internal error: )?Oops\b|.*: [0-9a-f]+ \[#\d+\]")


def is_complaint(message: str) -> bool:
    """Whether *message*, a line without its time stamp, begins the report of a kernel's fault."""
    return bool(_COMPLAINT.match(message)) and not message.startswith(_HARMLESS)


@dataclass(slots=True)
class Complaint:
    """One report of the kernel's."""

    #: Its lines that were recognised, by their places among all lines.
    places: list[int]
    #: All its lines, to the beginning of the next report.
    lines: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """Its first line."""
        return self.lines[0]


def complaints(lines: Iterable[str]) -> Iterator[Complaint]:
    """The reports in *lines*.

    One report may hold several lines that are recognised, until it names the process: "refcount_t:"
    is followed by "WARNING:", and "BUG:", some lines later, by "Oops:".
    """
    current: Complaint | None = None
    named = False
    for place, line in enumerate(lines):
        found = is_complaint(line)
        if found and current is not None:
            goes_on = place == current.places[-1] + 1 or _DIE.match(line)
            if named or not goes_on:
                yield current
                current = None
        if found and current is None:
            current, named = Complaint([]), False
        if current is None:
            continue
        current.lines.append(line)
        if found:
            current.places.append(place)
        named = named or _TASK in line
    if current is not None:
        yield current
