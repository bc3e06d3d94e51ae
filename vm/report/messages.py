# SPDX-License-Identifier: GPL-2.0-only
"""What a run says at its end: of each guest, and the last line."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tests.utils.waivers import unneeded
from vm.kernel.image import Kernel
from vm.report.phases import described
from vm.report.verdict import Verdict
from vm.run.console import top_frames
from vm.run.guest import Stop
from vm.run.stream import Records
from vm.terminal import Screen

if TYPE_CHECKING:
    from vm.run.run import Result, Seat

#: Lines of the console that are shown at most.
_TAIL = 20


def guest(screen: Screen, name: str, seat: Seat, verdict: Verdict, log: Sequence[str]) -> None:
    """What there is to say of one guest before the last line: pytest's own words, those of the
    kernel, the console's end."""
    if left := seat.transcript.left:
        screen.line(f"{f' {name} '.center(80, '-')}\n{left}")
    died = seat.guest.records.status is None
    if died:
        # pytest would have shown them at its end.
        for case in verdict.cases:
            if case.story and case.bad:
                screen.line(f"\n{f' {case.id} '.center(80, '_')}\n{case.story}")
    path = seat.guest.log.path
    if verdict.splats and not died:
        screen.line(f"\nthe kernel complained ({path}):")
        _quote(screen, verdict.splats)
    elif died and seat.guest.ending.stop is not Stop.INTERRUPTED and log:
        first = log.index(verdict.splats[0]) if verdict.splats else max(0, len(log) - _TAIL)
        screen.line(f"\nconsole ({path}):")
        _quote(screen, log[first:])


def _quote(screen: Screen, lines: Sequence[str]) -> None:
    for line in lines[:_TAIL]:
        screen.line(f"  {line}")


def trace(screen: Screen, kernel: Kernel, log: Sequence[str], path: Path) -> None:
    """Where in the kernel it was, and how to have the lines of its source."""
    frames = top_frames(log)
    if frames:
        screen.line("\nthe kernel was in " + "\n     called from ".join(frames))
        if kernel.source is not None and kernel.home is not None:
            script = kernel.source / "scripts/decode_stacktrace.sh"
            words = shlex.join([str(script), str(kernel.home / "vmlinux"), "auto"])
            screen.line(f"as lines of the source: {words} < {shlex.quote(str(path))}")


def waivers(screen: Screen, records: Sequence[Records]) -> None:
    """Which were needed in no guest; of one on its own pytest has said so."""
    if len(records) > 1 and all(one.status is not None for one in records):
        for line in unneeded([one.waivers for one in records]):
            screen.line(line)


def verdict(screen: Screen, result: Result, kernel: Kernel, verbose: bool) -> None:
    """The last line."""
    head = result.head
    if verbose:
        screen.line(described(head["phases"]))
    release = head["environment"].get("release") or kernel.release or "?"
    origin = "" if kernel.origin == str(kernel.path) else f" ({kernel.origin})"
    where = f"{'incomplete ' if result.error else ''}artefacts: {result.folder}"
    screen.line(
        f"Linux {release}{origin}, {head['backend']}: {head['verdict']} in {head['seconds']:.1f} s;"
        f" {where}"
    )
