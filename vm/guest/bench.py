# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest: the benchmark in place of pytest, and its results to the host."""

from __future__ import annotations

from pathlib import Path

from bench.cli import main
from vm.guest.channel import Channel
from vm.guest.protocol import Kind

_RESULTS = Path("/tmp/bench.json")


def run(arguments: list[str], channel: Channel) -> int:
    """Run the benchmark in this process; its exit status."""
    status = main([*arguments, "--json", str(_RESULTS)])
    if _RESULTS.exists():
        channel.send(Kind.MEASURED, results=_RESULTS.read_text())
    return status
