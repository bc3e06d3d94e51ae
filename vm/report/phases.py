# SPDX-License-Identifier: GPL-2.0-only
"""Where a guest's time went."""

from __future__ import annotations

from vm.run.guest import Ending
from vm.run.stream import Records

#: In their order. "firmware" ends with the kernel's first instructions, "kernel" when it starts
#: process 1, "Python" when that can run our code, "init" when the guest has told the host so.
#: Without time stamps in the kernel's log two of them cannot be told apart.
_BOTH = "kernel and Python"
_NAMES = (
    *("host set-up", "firmware", "kernel", "Python", _BOTH, "init"),
    *("pytest", "collection", "cases", "power-off"),
)
#: Messages of the guest that end a phase.
_MESSAGES = {"init": "hello", "pytest": "ready", "collection": "collected", "cases": "end"}


def phases(begin: float, records: Records, ending: Ending) -> dict[str, float]:
    """Seconds per phase, as far as it came; *begin* is when the launcher began with this kernel.

    What happens before the guest can speak is told by its own clock, which starts with the kernel.
    """
    ends = {"host set-up": ending.times["start"]}
    if "hello" in records.first:
        kernel = records.first["hello"] - records.guest_first["hello"]
        ends["firmware"] = kernel
        if "kernel" in records.started:
            ends["kernel"] = kernel + records.started["kernel"]
        ends["Python" if "kernel" in ends else _BOTH] = kernel + records.started["python"]
    elif "console" in ending.times:
        ends["firmware"] = ending.times["console"]
    for name, message in _MESSAGES.items():
        if message in records.first:
            ends[name] = records.first[message]
    reached = _NAMES.index(next(reversed(ends)))
    ends[_NAMES[min(reached + 1, len(_NAMES) - 1)]] = ending.times["end"]
    found, last = {}, begin
    for name, at in ends.items():
        found[name] = round(max(0.0, at - last), 2)
        last = max(last, at)
    return found


def described(found: dict[str, float]) -> str:
    """In a line."""
    return "phases: " + ", ".join(f"{name} {value:.2f} s" for name, value in found.items())
