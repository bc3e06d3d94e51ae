# SPDX-License-Identifier: GPL-2.0-only
"""Runs guests to their end, side by side: reads console and report, and keeps the two limits.

The boot limit counts from the start to the guest's first message, the run limit from there. A
guest that has said how pytest ended gets a few seconds to power off and is then stopped.
"""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.utils import cgroups
from vm.backend.base import Command
from vm.guest.protocol import Kind
from vm.process import started
from vm.run.log import Log
from vm.run.stream import Records

_GRACE = 5.0
_NO_MEMORY = (
    "the host ran out of memory and killed a guest\n"
    "hint: give the machine or the container more, or take fewer --guests or less --memory"
)
#: Seconds between two looks at the clock for those who show it.
_TICK = 1.0


class Stop(Enum):
    """Why a guest is no longer running."""

    EXITED = "the guest ended by itself"
    BOOT_LIMIT = "boot limit"
    RUN_LIMIT = "run limit"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Limits:
    """How long a guest may take to boot, and to run from then on: seconds."""

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
    #: time.monotonic() of start, first byte on the console, and end.
    times: dict[str, float] = field(default_factory=dict)
    #: The host's trouble that it died of, with a hint on the next line; empty where none is known.
    trouble: str = ""
    #: Whether the program was the kernel itself.
    is_kernel: bool = False

    @property
    def killed_by(self) -> str:
        """The signal by which somebody else ended the program, empty when nobody did.

        A guest cannot have it sent. User-Mode Linux ends by SIGABRT when it panics.
        """
        numbers = (signal.SIGKILL, signal.SIGTERM)
        return next((n.name for n in numbers if self.returncode in (-n, n, n + 128)), "")

    @property
    def crashed_by(self) -> str:
        """The signal by which a kernel that is a program of its own crashed, empty for none."""
        crashed = self.is_kernel and not self.killed_by and (self.returncode or 0) < 0
        return signal.Signals(-self.returncode).name if crashed and self.returncode else ""


def trouble(command: Command, said: Iterable[str], returncode: int | None) -> str:
    """Return the host's trouble, and a hint, where a guest died that *said* this; else empty."""
    text = "\n".join(said)
    for sign in command.signs:
        if re.search(sign.words, text):
            return f"{sign.problem}\nhint: {sign.hint}"
    if returncode in (-signal.SIGSYS, signal.SIGSYS + 128):
        return (
            f"a seccomp filter ended {Path(command.arguments[0]).name} (SIGSYS)\nhint: allow its"
            " system calls: docker run --security-opt seccomp=unconfined; under systemd see"
            " SystemCallFilter="
        )
    return ""


class Guest:
    """One guest: started on creation, killed when *stack* is left."""

    def __init__(
        self,
        command: Callable[[int], Command],
        records: Records,
        console: Path,
        show: Callable[[str], None],
        stack: ExitStack,
        keyboard: int = subprocess.DEVNULL,
    ) -> None:
        """*command* makes the command line from the descriptor that takes the report, *show* is
        given what pytest prints. *keyboard* is what the console reads."""
        self.records = records
        #: Is given what the guest puts on its console.
        self.listener: Callable[[bytes], None] = lambda _: None
        self._kills = cgroups.oom_kills()
        self.ending = Ending(Stop.EXITED, None, "", 0, {"start": time.monotonic()})
        self.done = False
        self._show = show
        self._errors = b""
        self._stack = stack.enter_context(ExitStack())
        self.log = Log(console)
        self._stack.callback(self.log.close)
        report, report_end = os.pipe()
        self._stack.callback(os.close, report)
        # Kept open: a program that gets no descriptors from us opens it through /proc.
        self._stack.callback(os.close, report_end)
        line = self._command = command(report_end)
        self.ending.is_kernel = line.is_kernel
        self._program = self._stack.enter_context(
            started(
                line.arguments,
                (report_end,),
                dict(line.environment),
                line.folder,
                line.processor,
                stdin=keyboard,
            )
        )
        process = self._program.process
        self.handle = os.pidfd_open(process.pid)
        self._stack.callback(os.close, self.handle)
        assert process.stdout is not None
        assert process.stderr is not None
        self._takers = {
            process.stdout.fileno(): self._take_console,
            process.stderr.fileno(): self._take_errors,
            report: self._take_report,
        }
        for fd in self._takers:
            os.set_blocking(fd, False)

    @property
    def descriptors(self) -> list[int]:
        """What to wait for."""
        return [self.handle, *self._takers]

    def _take_console(self, data: bytes) -> None:
        if data:
            self.ending.times.setdefault("console", time.monotonic())
        self.log.write(data)
        self.listener(data)
        self.ending.console_bytes = self.log.size

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
        """Return when to stop waiting, and what that would mean."""
        if Kind.END in self.records.first:
            return self.records.first[Kind.END] + _GRACE, Stop.EXITED
        if Kind.HELLO in self.records.first:
            return self.records.first[Kind.HELLO] + limits.run, Stop.RUN_LIMIT
        return self.ending.times["start"] + limits.boot, Stop.BOOT_LIMIT

    def kill(self) -> None:
        """End it, as it must not end by itself."""
        self._program.kill()

    def finish(self, stop: Stop) -> None:
        """Take what a guest that has ended, or must, still wrote, and let go of all it held."""
        self.ending.returncode = self._program.process.poll()
        self._program.kill()
        for fd in self._takers:
            while self.take(fd):
                pass
        self.records.close()
        self.ending.times["end"] = time.monotonic()
        self.ending.stderr = self._errors.decode(errors="replace").strip()
        self.ending.stop = stop if self.records.status is None else Stop.EXITED
        self.done = True
        self._stack.close()
        if self.ending.stop is Stop.EXITED and self.records.status is None:
            said = [*self.log.lines(), *self.ending.stderr.splitlines()]
            self.ending.trouble = trouble(self._command, said, self.ending.returncode)
            if self.ending.killed_by and cgroups.oom_kills() > self._kills:
                self.ending.trouble = _NO_MEMORY


def drive(
    guests: Sequence[Guest],
    limits: Limits,
    ended: Callable[[Guest], Iterable[Guest]] = lambda _: (),
    tick: Callable[[], None] = lambda: None,
    others: Mapping[int, Callable[[], None]] | None = None,
) -> None:
    """Serve the guests until each has ended or hit a limit.

    *ended* is told of each that has, and gives those that are to be served from then on; *tick* is
    called whenever something may have changed, and about once a second. *others* are descriptors
    of the caller's, and what to do when one can be read.
    """
    with selectors.DefaultSelector() as selector:
        for fd, act in (others or {}).items():
            selector.register(fd, selectors.EVENT_READ, act)
        running: list[Guest] = []

        def begin(more: Iterable[Guest]) -> None:
            for guest in more:
                running.append(guest)
                for fd in guest.descriptors:
                    selector.register(fd, selectors.EVENT_READ, guest)

        def end(guest: Guest, stop: Stop) -> None:
            running.remove(guest)
            for fd in guest.descriptors:
                if fd in selector.get_map():
                    selector.unregister(fd)
            guest.finish(stop)
            begin(ended(guest))

        begin(guests)
        while running:
            until = min(guest.deadline(limits)[0] for guest in running)
            for key, _ in selector.select(min(_TICK, max(0.0, until - time.monotonic()))):
                guest = key.data
                if not isinstance(guest, Guest):
                    guest()
                elif guest.done:
                    continue
                elif key.fd == guest.handle:
                    end(guest, Stop.EXITED)
                elif not guest.take(key.fd):
                    selector.unregister(key.fd)
            for guest in list(running):
                at, stop = guest.deadline(limits)
                if time.monotonic() >= at:
                    end(guest, stop)
            tick()
