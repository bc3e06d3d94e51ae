# SPDX-License-Identifier: GPL-2.0-only
"""Searches a kernel's console for what the kernel says when something is wrong with it.

Only the beginning of a message counts: a line such as "Spectre V2 : WARNING: ..." is advice, not
a report. The texts are those of lib/bug.c, kernel/panic.c, kernel/hung_task.c, mm/kasan, lockdep.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: "[    1.234567] " or "[    1.234567][    T1] ".
_STAMP = re.compile(r"^(?:<\d>)?(?:\[\s*\d+\.\d+\]\s?(?:\[\s*[TC]\d+\]\s?)?)?")
_SPLAT = re.compile(
    r"""(?x)^(?:rcu:\ |watchdog:\ |Internal\ error:\ )?(?:
    Kernel\ panic | Oops\b | (?:.*:\ )?Oops:\ \d | BUG\b | WARNING:
    | INFO:\ task\ .*\ blocked | INFO:\ rcu_\S+\ .*(?:detected|stall) | INFO:\ possible\ recursive
    | INFO:\ trying\ to\ register\ non-static | INFO:\ lockdep\ is\ turned\ off
    | =*\[?\ BUG: | general\ protection\ fault | UBSAN: | kernel\ BUG\ at | kmemleak:\ \d+\ new
    | refcount_t: | (?:list_add|list_del)\ corruption
    | (?:possible\ circular|possible\ irq|inconsistent)\ .*(?:lock|detected)
    )"""
)


def message(line: str) -> str:
    """A console line without its time stamp and line end."""
    return _STAMP.sub("", line.rstrip("\r\n"), count=1)


def splats(lines: Iterable[str]) -> list[str]:
    """The lines that report a fault of the kernel."""
    return [line for line in lines if _SPLAT.match(message(line))]


def panicked(lines: Iterable[str]) -> str:
    """The message of the panic, empty when there was none."""
    for line in lines:
        if message(line).startswith("Kernel panic"):
            return message(line)
    return ""
