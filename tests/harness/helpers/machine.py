# SPDX-License-Identifier: GPL-2.0-only
"""What cases must not change of this process and of the machine."""

from __future__ import annotations

import os
from pathlib import Path

from tests.utils.isolation import sandbox


def links(folder: str) -> dict[str, str]:
    """The symbolic links in *folder*, with what they point to."""
    found = {}
    for name in os.listdir(folder):
        try:
            found[name] = os.readlink(f"{folder}/{name}")
        except OSError:
            found[name] = "gone"
    return found


def picture() -> dict[str, object]:
    """What cases must not change, of this process and of the machine."""
    status = Path("/proc/self/status").read_text().splitlines()
    keep = ("Umask", "Uid", "Gid", "Groups", "Cap", "SigBlk", "SigIgn", "SigCgt", "NSpid")
    descriptors = {fd: link for fd, link in links("/proc/self/fd").items() if link != "gone"}
    return {
        "mounts": Path("/proc/self/mountinfo").read_text(),
        "namespaces": links("/proc/self/ns"),
        "credentials": [line for line in status if line.startswith(keep)],
        "cwd": os.getcwd(),
        "root": os.readlink("/proc/self/root"),
        "nice": os.nice(0),
        # The folder read just now is one of them.
        "descriptors": {fd: link for fd, link in descriptors.items() if "/proc/" not in link},
        "scratch": sorted(os.listdir(sandbox.facts().scratch or "/proc/self/ns")),
    }


def children() -> set[str]:
    """The PIDs of this process's children, the dead ones included."""
    own = str(os.getpid())
    stats = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stats[name] = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
    return {pid for pid, parent in stats.items() if parent == own}
