# SPDX-License-Identifier: GPL-2.0-only
"""What control groups leave to this process of the machine: processors and memory.

A container sees all processors in its affinity and all memory in /proc/meminfo, and may use as much
as its quota (Documentation/admin-guide/cgroup-v2.rst, and cgroup-v1/ for machines with that).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_CPU, _MEMORY = "cpu", "memory"
#: Of a group, in the second version and the first; and what counts in both.
_EVENTS, _KILLS = ("memory.events", "memory.oom_control"), "oom_kill"
#: Bytes where no limit is known: more than any machine has.
_UNKNOWN = 1 << 62


def processors(root: Path = Path("/")) -> int:
    """Return how many processors this process may use at the same time."""
    usable = len(os.sched_getaffinity(0))
    quotas = [quota for folder in _folders(root, _CPU) if (quota := _quota(folder))]
    return max(1, min([usable, *(math.ceil(quota) for quota in quotas)]))


def memory(root: Path = Path("/")) -> int:
    """Return how many bytes of memory are left to this process, as far as that is known."""
    found = [_free(folder) for folder in _folders(root, _MEMORY)]
    with suppress(OSError, ValueError, IndexError):
        text = (root / "proc/meminfo").read_text()
        found.append(int(text.partition("\nMemAvailable:")[2].split()[0]) << 10)
    return min(found, default=_UNKNOWN)


def oom_kills(root: Path = Path("/")) -> int:
    """Return how many processes have been killed for want of memory: in this process's group or, of
    the machine, where no group counts them."""
    found = []
    files = [folder / name for folder in _folders(root, _MEMORY) for name in _EVENTS]
    for file in [*files[: len(_EVENTS)], root / "proc/vmstat"]:
        words = _read(file)
        if _KILLS in words:
            found.append(int(words[words.index(_KILLS) + 1]))
    return found[0] if found else 0


def _folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those above it that *controller* limits."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for group in groups:
        # "0::/path", or with the names of cgroup v1's controllers "4:cpu,cpuacct:/path".
        number, names, path = group.split(":", 2)
        for mount in mounts:
            words, _, rest = mount.partition(" - ")
            kind, _, options = rest.split(" ")[:3]
            both = {*names.split(",")} & {*options.split(",")}
            if kind == "cgroup2" if number == "0" else kind == "cgroup" and controller in both:
                top, place = words.split(" ")[3:5]
                yield from _upwards(root / place.lstrip("/"), path, top)


def _upwards(place: Path, path: str, top: str) -> Iterator[Path]:
    # What is mounted may be the container's own part of the whole tree.
    below = path.removeprefix(top).strip("/") if path.startswith(top) else ""
    folder = place / below
    while folder != place:
        yield folder
        folder = folder.parent
    yield place


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _quota(folder: Path) -> float:
    """Return how many processors' time *folder* allows, 0 for no limit."""
    words = _read(folder / "cpu.max") or [
        *_read(folder / "cpu.cfs_quota_us"),
        *_read(folder / "cpu.cfs_period_us"),
    ]
    with suppress(ValueError, ZeroDivisionError):
        if len(words) == 2:
            return max(0.0, int(words[0]) / int(words[1]))
    return 0.0


def _free(folder: Path) -> int:
    """Return the bytes that *folder* still allows: what it limits, less what cannot be given up."""
    for limit, usage, cached in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        with suppress(ValueError, IndexError):
            most, taken = int(_read(folder / limit)[0]), int(_read(folder / usage)[0])
            stat = _read(folder / "memory.stat")
            spare = int(stat[stat.index(cached) + 1]) if cached in stat else 0
            return max(0, most - max(0, taken - spare))
    return _UNKNOWN
