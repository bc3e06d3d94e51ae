# SPDX-License-Identifier: GPL-2.0-only
"""What a guest sends of a run, as a launcher receives it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from vm.run.stream import Records

MARKERS = {"rule": ["r1"], "fixed_by": ["0123456789ab", "7.9", "mount: stop crashing"]}
IDS = ["t.py::one", "t.py::two", "t.py::three"]


class Stream:
    """Writes what a guest would send."""

    def __init__(self, nonce: str = "N") -> None:
        self._nonce = nonce
        self._numbers: dict[str, int] = {}
        self.data = b""

    def add(self, kind: str, sender: str = "pytest", **values: Any) -> Stream:
        number = self._numbers.get(sender, 0)
        self._numbers[sender] = number + 1
        frame = {"nonce": self._nonce, "from": sender, "seq": number, "kind": kind, "at": 1.0}
        frame |= values
        self.data += json.dumps(frame).encode() + b"\n"
        return self

    def begin(self) -> Stream:
        self.hello()
        return self.add("collected", ids=IDS, places=[*range(len(IDS))])

    def hello(self) -> Stream:
        started = {"kernel": 0.5, "python": 0.75}
        return self.add("hello", "init", environment={"release": "7.9.1"}, started=started)

    def case(
        self, name: str, outcome: str = "passed", reason: str = "", complaints: Sequence[str] = ()
    ) -> Stream:
        self.add("start", id=name, markers=MARKERS)
        case = {"id": name, "outcome": outcome, "reason": reason, "duration": 0.5}
        return self.add("result", case={**case, "complaints": list(complaints)})

    def end(self, status: int) -> Stream:
        return self.add("end", "init", status=status)


def records_of(data: bytes) -> Records:
    records = Records("N")
    records.feed(data)
    records.close()
    return records
