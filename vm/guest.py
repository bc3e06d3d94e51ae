# SPDX-License-Identifier: GPL-2.0-only
"""Runs one guest to its end: reads console and report side by side, and keeps the two limits.

The boot limit counts from the start to the guest's first message, the run limit from there. A
guest that has said how pytest ended gets a few seconds to power off and is then stopped.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from vm.backends import Command
from vm.process import started
from vm.records import Records

_GRACE = 5.0


class Stop(Enum):
    """Why a guest is no longer running."""

    EXITED = "the guest ended by itself"
    BOOT_LIMIT = "boot limit"
    RUN_LIMIT = "run limit"


@dataclass(frozen=True)
class Limits:
    """Seconds."""

    boot: float = 120.0
    run: float = 900.0


@dataclass
class Ending:
    """How a guest ended."""

    stop: Stop
    #: Of the program; says nothing about the cases. None when it had to be killed.
    returncode: int | None
    #: Last words of the program itself, as opposed to its guest's.
    stderr: str
    #: Bytes the guest put on its console.
    console_bytes: int
    #: time.monotonic() of start, first console byte and end.
    times: dict[str, float] = field(default_factory=dict)


def drive(
    command: Callable[[int], Command],
    records: Records,
    console: Path,
    limits: Limits,
    show: Callable[[str], None],
) -> Ending:
    """Start the program, feed *records* and the *console* file until it ends or a limit is hit.

    *command* makes the command line from the descriptor that the report is to be written to.
    """
    report, report_end = os.pipe()
    try:
        return _drive(command(report_end), report, report_end, records, console, limits, show)
    finally:
        for fd in (report, report_end):
            try:
                os.close(fd)
            except OSError:
                continue  # closed already, once the program had it


def _drive(
    command: Command,
    report: int,
    report_end: int,
    records: Records,
    console: Path,
    limits: Limits,
    show: Callable[[str], None],
) -> Ending:
    begin = time.monotonic()
    times = {"start": begin}
    errors = b""
    written = 0
    environment = dict(command.environment)
    with (
        console.open("wb") as log,
        started(command.arguments, (report_end,), environment, command.folder) as process,
        selectors.DefaultSelector() as selector,
    ):
        os.close(report_end)
        assert process.stdout is not None
        assert process.stderr is not None
        handle = os.pidfd_open(process.pid)
        names = {process.stdout.fileno(): "console", process.stderr.fileno(): "stderr"}
        names |= {report: "report", handle: "process"}
        for fd in names:
            os.set_blocking(fd, False)
            selector.register(fd, selectors.EVENT_READ)
        exited = False
        stop = Stop.EXITED
        try:
            while True:
                deadline, reason = _deadline(begin, records, limits)
                left = 0.0 if exited else max(0.0, deadline - time.monotonic())
                ready = [key.fd for key, _ in selector.select(left)]
                if not ready:
                    if not exited:
                        stop = reason
                    break
                for fd in ready:
                    if names[fd] == "process":
                        exited = True
                        selector.unregister(fd)
                        continue
                    data = os.read(fd, 1 << 16)
                    if not data:
                        selector.unregister(fd)
                    elif names[fd] == "report":
                        if text := records.feed(data):
                            show(text)
                    elif names[fd] == "console":
                        times.setdefault("console", time.monotonic())
                        written += log.write(data)
                        log.flush()
                    else:
                        errors = (errors + data)[-4096:]
        finally:
            os.close(handle)
        times["end"] = time.monotonic()
        code = process.wait() if exited else None
    records.close()
    if records.status is not None:
        stop = Stop.EXITED
    return Ending(stop, code, errors.decode(errors="replace").strip(), written, times)


def _deadline(begin: float, records: Records, limits: Limits) -> tuple[float, Stop]:
    """When to stop waiting, and what that would mean."""
    if "end" in records.first:
        return records.first["end"] + _GRACE, Stop.EXITED
    if "hello" in records.first:
        return records.first["hello"] + limits.run, Stop.RUN_LIMIT
    return begin + limits.boot, Stop.BOOT_LIMIT
