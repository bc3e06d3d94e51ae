# SPDX-License-Identifier: GPL-2.0-only
"""Reads what the guest sends and keeps the state of the run: environment, cases, what is running.

The stream may end anywhere: a kernel that dies takes the rest along. A line that is cut, is not
JSON or lacks the run's nonce is dropped and counted; a gap in a sender's numbers is counted too.
What came before stands.
"""

from __future__ import annotations

import base64
import json
import time
import zlib
from typing import Any

from tests.utils.report.case import Case
from tests.utils.report.waivers import Use
from vm.guest.protocol import Kind

#: Bytes in a message. One has what a case printed, another the names of all cases.
_LONGEST = 64 << 20


class Records:
    """The guest's report, as far as it has come."""

    def __init__(self, nonce: str) -> None:
        self._nonce = nonce
        self._buffer = bytearray()
        self._expected: dict[str, int] = {}
        self.environment: dict[str, Any] = {}
        self.collected: list[str] = []
        #: Where each collected case stands among those of all guests.
        self.places: dict[str, int] = {}
        self.results: dict[str, Case] = {}
        #: The case that was announced and has not ended, and the markers of the last one announced.
        self.running: str | None = None
        self.markers: dict[str, list[Any]] = {}
        #: Exit status of pytest in the guest, None while it has not come; negative for a signal.
        self.status: int | None = None
        #: Why pytest stopped before its end, empty when it did not.
        self.stopped = ""
        #: What the benchmark measured, as it has it in its file; empty while it has not come.
        self.measured = ""
        #: Counters of the kernel's objects as gcc has them (.gcda), by the object's path.
        self.coverage: dict[str, bytes] = {}
        #: What became of each waiver.
        self.waivers: list[Use] = []
        self.lost = 0
        #: Host time (time.monotonic) at which each kind of message first arrived.
        self.first: dict[str, float] = {}
        #: Seconds after the kernel's own start, by the guest's clock: of the same, and of when the
        #: kernel was up ("kernel") and Python ("python").
        self.guest_first: dict[str, float] = {}
        self.started: dict[str, float] = {}

    @property
    def cases(self) -> list[Case]:
        """The cases that ended, in their order."""
        return list(self.results.values())

    def feed(self, data: bytes) -> str:
        """Take in bytes of the stream; returns what pytest printed in them."""
        self._buffer += data
        if b"\n" not in data:
            if len(self._buffer) > _LONGEST:  # nothing of ours
                self.lost += 1
                self._buffer.clear()
            return ""
        *lines, self._buffer = self._buffer.split(b"\n")
        return "".join(self._line(line) for line in lines if line.strip())

    def close(self) -> None:
        """Count what is left of a line as a message that was cut: the stream has ended."""
        if self._buffer.strip():
            self.lost += 1
            self._buffer.clear()

    def _line(self, line: bytearray) -> str:
        try:
            frame = json.loads(line)
            if frame["nonce"] != self._nonce:
                raise ValueError("not of this run")
            sender, number, kind = frame["from"], frame["seq"], frame["kind"]
            self.lost += max(0, number - self._expected.get(sender, 0))
            self._expected[sender] = number + 1
            self.first.setdefault(kind, time.monotonic())
            self.guest_first.setdefault(kind, frame["at"])
            return self._take(kind, frame)
        except (ValueError, KeyError, TypeError, zlib.error):
            self.lost += 1
            return ""

    def _take(self, kind: str, frame: dict[str, Any]) -> str:
        match kind:
            case Kind.HELLO:
                self.environment = frame["environment"]
                self.started = frame["started"]
            case Kind.COLLECTED:
                self.collected = frame["ids"]
                self.places = dict(zip(frame["ids"], frame["places"], strict=True))
            case Kind.FACTS:
                self.environment = {**frame["facts"], **self.environment}
            case Kind.START:
                self.running, self.markers = frame["id"], frame["markers"]
            case Kind.RESULT:
                self.running = None
                case = Case(**{"markers": self.markers, **frame["case"]})
                self.results[case.id] = case
            case Kind.FINISHED:
                self.stopped = frame["lost"]
                self.waivers = [Use(**use) for use in frame["waivers"]]
            case Kind.MEASURED:
                self.measured = frame["results"]
            case Kind.COVERAGE:
                data = base64.b64decode(frame["data"], validate=True)
                self.coverage[frame["path"]] = zlib.decompress(data)
            case Kind.END:
                self.status = frame["status"]
            case Kind.TEXT:
                return str(frame["text"])
        return ""
