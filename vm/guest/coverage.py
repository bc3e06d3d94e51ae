# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: which lines of the kernel ran, from the kernel's gcov to the host.

The counters are the kernel's own (CONFIG_GCOV_KERNEL), in debugfs, in the form of gcc's .gcda.
"""

from __future__ import annotations

import base64
import os
import zlib

from vm.guest.channel import Channel
from vm.guest.protocol import Kind

_FOLDER = "/sys/kernel/debug/gcov"


def reset() -> None:
    """Begin to count anew: what ran before is not the cases' doing.

    :raises OSError: the kernel does not count.
    """
    with open(f"{_FOLDER}/reset", "w", encoding="ascii") as file:
        file.write("1")


def send(channel: Channel, folder: str = _FOLDER) -> None:
    """Send the counters of each object to the host."""
    for path, _, names in os.walk(folder):
        for name in sorted(names):
            if name.endswith(".gcda"):
                with open(os.path.join(path, name), "rb") as file:
                    data = base64.b64encode(zlib.compress(file.read())).decode()
                place = os.path.relpath(os.path.join(path, name), folder)
                channel.send(Kind.COVERAGE, drain=True, path=place, data=data)
