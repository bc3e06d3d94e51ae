# SPDX-License-Identifier: GPL-2.0-only
"""Runs guests to their end, side by side: reads console and report, and keeps the two limits.

The boot limit counts from the start to the guest's first message, the run limit from there. A
guest that has said how pytest ended gets a few seconds to power off and is then stopped.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from vm.backends import Command
from vm.process import kill, started
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
    #: time.monotonic() of start and end.
    times: dict[str, float] = field(default_factory=dict)


class Guest:
    """One guest: started on creation, killed when *stack* is left."""

    def __init__(
        self,
        command: Callable[[int], Command],
        records: Records,
        console: Path,
        show: Callable[[str], None],
        stack: ExitStack,
    ) -> None:
        """*command* makes the command line from the descriptor that takes the report."""
        self.records = records
        self.ending = Ending(Stop.EXITED, None, "", 0, {"start": time.monotonic()})
        self.done = False
        self._show = show
        self._errors = b""
        self._log = stack.enter_context(console.open("wb"))
        report, report_end = os.pipe()
        stack.callback(os.close, report)
        try:
            line = command(report_end)
            self._process = stack.enter_context(
                started(
                    line.arguments,
                    (report_end,),
                    dict(line.environment),
                    line.folder,
                    line.processor,
                )
            )
        finally:
            os.close(report_end)
        handle = os.pidfd_open(self._process.pid)
        stack.callback(os.close, handle)
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._takers = {
            self._process.stdout.fileno(): self._take_console,
            self._process.stderr.fileno(): self._take_errors,
            report: self._take_report,
        }
        self.handle = handle
        for fd in self._takers:
            os.set_blocking(fd, False)

    @property
    def descriptors(self) -> list[int]:
        """What to wait for."""
        return [self.handle, *self._takers]

    def _take_console(self, data: bytes) -> None:
        self.ending.console_bytes += self._log.write(data)
        self._log.flush()

    def _take_errors(self, data: bytes) -> None:
        self._errors = (self._errors + data)[-4096:]

    def _take_report(self, data: bytes) -> None:
        if text := self.records.feed(data):
            self._show(text)

    def take(self, fd: int) -> bool:
        """Read what *fd* has; False at its end."""
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return False
        self._takers[fd](data)
        return bool(data)

    def deadline(self, limits: Limits) -> tuple[float, Stop]:
        """When to stop waiting, and what that would mean."""
        if "end" in self.records.first:
            return self.records.first["end"] + _GRACE, Stop.EXITED
        if "hello" in self.records.first:
            return self.records.first["hello"] + limits.run, Stop.RUN_LIMIT
        return self.ending.times["start"] + limits.boot, Stop.BOOT_LIMIT

    def finish(self, stop: Stop) -> None:
        """The guest has ended, or must: take what it still said."""
        if self._process.poll() is None:
            kill(self._process)
        else:
            self.ending.returncode = self._process.returncode
        for fd in self._takers:
            while self.take(fd):
                pass
        self.records.close()
        self.ending.times["end"] = time.monotonic()
        self.ending.stderr = self._errors.decode(errors="replace").strip()
        self.ending.stop = stop if self.records.status is None else Stop.EXITED
        self.done = True


def drive(guests: Sequence[Guest], limits: Limits) -> None:
    """Serve the guests until each has ended or hit a limit."""
    with selectors.DefaultSelector() as selector:
        for guest in guests:
            for fd in guest.descriptors:
                selector.register(fd, selectors.EVENT_READ, guest)
        while running := [guest for guest in guests if not guest.done]:
            until = min(guest.deadline(limits)[0] for guest in running)
            for key, _ in selector.select(max(0.0, until - time.monotonic())):
                guest = key.data
                if guest.done:
                    continue
                if key.fd == guest.handle:
                    _end(guest, Stop.EXITED, selector)
                elif not guest.take(key.fd):
                    selector.unregister(key.fd)
            for guest in running:
                at, stop = guest.deadline(limits)
                if not guest.done and time.monotonic() >= at:
                    _end(guest, stop, selector)


def _end(guest: Guest, stop: Stop, selector: selectors.BaseSelector) -> None:
    guest.finish(stop)
    for fd in guest.descriptors:
        if fd in selector.get_map():
            selector.unregister(fd)
