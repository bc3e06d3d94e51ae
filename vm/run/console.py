# SPDX-License-Identifier: GPL-2.0-only
"""Reads a kernel's console: messages behind their time stamps, complaints, where in the kernel it
was, the panic."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tests.utils.watch.complaints import is_complaint

#: "[    1.234567] " or "[    1.234567][    T1] ".
_STAMP = re.compile(r"^(?:<\d>)?(?:\[\s*\d+\.\d+\]\s?(?:\[\s*[TC]\d+\]\s?)?)?")
#: "RIP: 0010:function+0x1/0x2"; what ran in user space has no function there.
_RIP = re.compile(r"RIP: [0-9a-f]+:([\w.]+\+0x[0-9a-f]+/0x[0-9a-f]+)")
#: " function+0x1/0x2", after an address where User-Mode Linux writes it.
_FRAME = re.compile(r"\s+(?:\[<[0-9a-f]+>\] )?(\? )?(([\w.]+)\+0x[0-9a-f]+/0x[0-9a-f]+)")
_IN_TRACE = re.compile(r"\s*</?(?:TASK|IRQ|NMI|SOFTIRQ)>\s*$")
#: Functions that only report; the one at fault called them.
_REPORTING = re.compile(
    r"dump_stack|show_(?:stack|trace)|v?panic$|_printk$|__warn|warn_slowpath|report_bug|handle_bug"
    r"|die$|__die|oops_|exc_|asm_exc_|print_|kasan_|__asan_|check_noncircular|__lock_acquire"
    r"|lock_acquire|__?might_|lockdep_|ubsan_|__ubsan_|bad_area|page_fault_oops"
)
#: Frames that are shown, and how far apart a report, its RIP and its trace can be.
_TOP, _NEAR = 5, 80


def message(line: str) -> str:
    """Return a console line without its time stamp and line end."""
    return _STAMP.sub("", line.rstrip("\r\n"), count=1)


def splats(lines: Iterable[str]) -> list[str]:
    """Return the lines that report a fault of the kernel."""
    return [line for line in lines if is_complaint(message(line))]


def panicked(lines: Iterable[str]) -> str:
    """Return the message of the panic, empty when there was none."""
    for line in lines:
        if message(line).startswith("Kernel panic"):
            return message(line)
    return ""


def top_frames(lines: Sequence[str]) -> list[str]:
    """Return the functions on top of the stack when the kernel first complained, innermost first.

    As "function+0x1/0x2". Empty when it did not complain, or printed no stack.
    """
    texts = [message(line) for line in lines]
    first = next((n for n, text in enumerate(texts) if is_complaint(text)), None)
    if first is None:
        return []
    # User-Mode Linux prints the registers before it says what has happened.
    near = texts[max(0, first - _NEAR // 4) : first + _NEAR]
    trace = next((n for n, text in enumerate(near) if text.startswith("Call Trace:")), len(near))
    found = [match[1] for text in near[:trace] if (match := _RIP.match(text))][-1:]
    for text in near[trace + 1 :]:
        match = _FRAME.match(text)
        if match is None:
            if _IN_TRACE.match(text):
                continue
            break
        guess, frame, function = match.groups()
        # Where a call does not return, as panic()'s, the address after it is the next function's.
        if not guess and "+0x0/" not in frame and not _REPORTING.match(function):
            found.append(frame)
    return list(dict.fromkeys(found))[:_TOP]


def said_by_init(lines: Iterable[str]) -> str:
    """Return why the guest's process 1 gave up, in its own words; empty when it did not."""
    return next((line.removeprefix("vm: ") for line in lines if line.startswith("vm: ")), "")
