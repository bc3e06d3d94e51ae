# SPDX-License-Identifier: GPL-2.0-only
"""Reads the kernel's log, and its taint, from a point in time on.

/dev/kmsg gives each reader a place of its own: several can follow the log without taking anything
from one another (Documentation/ABI/testing/dev-kmsg).
"""

from __future__ import annotations

import os
import re
import select
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.utils.watch.complaints import is_complaint

LOG = Path("/dev/kmsg")
TAINT = Path("/proc/sys/kernel/tainted")

#: Taint that says what was loaded or tried, and nothing of a fault (admin-guide/tainted-kernels):
#: proprietary, staging, out-of-tree and unsigned modules, live patch, the distribution's own, test;
#: what other programs asked for (6, 19), and what is found out late of processor and firmware (2,
#: 8, 11).
_INNOCENT = sum(1 << bit for bit in (0, 2, 6, 8, 10, 11, 12, 13, 15, 16, 18, 19))
_MAJOR_MEM, _MINOR_KMSG = 1, 11
#: Longer than any record.
_RECORD = 1 << 14
#: As many as are taken at once: a kernel may write faster than anybody reads.
_MOST = 20_000
_LEVEL_BITS = 3
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
#: When a complaint has been seen: how long the log must be quiet, and how long that is waited for,
#: in seconds. Its trace may still be coming.
_QUIET, _PATIENCE = 0.05, 1.0


@dataclass(frozen=True, slots=True)
class Record:
    """One message of the kernel's."""

    #: No other has it.
    sequence: int
    #: Of the kernel's own clock, since the start.
    seconds: float
    text: str
    #: Who said it: 0 is the kernel. Programs write to /dev/kmsg too, under any other number.
    facility: int = 0

    def __str__(self) -> str:
        return f"[{self.seconds:12.6f}] {self.text}"


def parse(data: bytes) -> Iterator[Record]:
    """The records in *data*: "priority,sequence,microseconds,flags;text", unprintable bytes as
    \\xNN. Lines that begin with a blank give the record's device. A priority is a facility and,
    in its lowest bits, a level (syslog(3))."""
    for line in data.splitlines():
        head, separator, text = line.partition(b";")
        if line.startswith(b" ") or not separator:
            continue
        priority, sequence, microseconds, *_ = head.split(b",")
        whole = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text)
        for part in whole.decode(errors="replace").splitlines() or [""]:
            seconds, facility = int(microseconds) / 1e6, int(priority) >> _LEVEL_BITS
            yield Record(int(sequence), seconds, part, facility)


class KernelLog:
    """The log from the time of creation on."""

    def __init__(self) -> None:
        """:raises OSError: it cannot be read here."""
        self.fd = os.open(LOG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(self.fd)
            device = os.major(status.st_rdev), os.minor(status.st_rdev)
            # Containers have something harmless in its place, which never says a word.
            if stat.S_ISCHR(status.st_mode) and device != (_MAJOR_MEM, _MINOR_KMSG):
                raise OSError("this is not the kernel's log")
            os.lseek(self.fd, 0, os.SEEK_END)
        except BaseException:
            os.close(self.fd)
            raise
        self._next: int | None = None
        #: How many messages, at least, were overwritten before they could be read.
        self.overwritten = 0
        self._poller = select.poll()
        self._poller.register(self.fd, select.POLLIN)

    def read(self) -> list[Record]:
        """What the kernel logged since the last call. Of a complaint, all of it."""
        if not self._poller.poll(0):
            return []
        records = list(self._available())
        if any(is_complaint(record.text) for record in records):
            until = time.monotonic() + _PATIENCE
            while self._poller.poll(_QUIET * 1000) and time.monotonic() < until:
                more = list(self._available())
                if not more:
                    break
                records += more
        return records

    def _available(self) -> Iterator[Record]:
        gap = False
        for _ in range(_MOST):
            try:
                data = os.read(self.fd, _RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:
                gap = True  # the next read goes on with the oldest one there is
                continue
            if not data:
                return
            for record in parse(data):
                if gap:
                    self.overwritten += record.sequence - (self._next or record.sequence - 1)
                gap, self._next = False, record.sequence + 1
                if not record.facility:
                    yield record

    def close(self) -> None:
        """Close the log."""
        os.close(self.fd)


class Taint:
    """The taint of the kernel: bits that are new since creation."""

    def __init__(self) -> None:
        """:raises OSError: it cannot be read here."""
        self.fd = os.open(TAINT, os.O_RDONLY | os.O_CLOEXEC)
        self._known = self._mask()

    def _mask(self) -> int:
        return int(os.pread(self.fd, 32, 0))

    def new(self) -> int:
        """The bits set since the last call, without those that accuse nobody."""
        mask = self._mask()
        bits = mask & ~self._known
        self._known |= mask
        return bits & ~_INNOCENT

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)
