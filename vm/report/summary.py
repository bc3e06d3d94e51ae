# SPDX-License-Identifier: GPL-2.0-only
"""A run's results for other programs: JUnit XML, KTAP and a JSON summary; see RESULTS.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.utils.report import digest_text, junit, ktap
from tests.utils.report.case import OUTCOMES, Case
from tests.utils.report.digest import Digest
from vm.guest.protocol import Kind
from vm.run.guest import Ending
from vm.run.stream import Records


@dataclass(frozen=True)
class Summary:
    """The run as a whole: what `summary.json` begins with, under the same names."""

    verdict: str = ""
    status: int = 0
    incomplete: str = ""
    #: ISO 8601.
    started: str = ""
    kernel: str = ""
    backend: str = ""
    guests: int = 1
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    kernel_complaints: list[str] = field(default_factory=list)
    top_frames: list[str] = field(default_factory=list)
    digest: Digest = field(default_factory=Digest)

    @property
    def release(self) -> str:
        """The kernel's own release, empty when it did not boot."""
        return str(self.environment.get("release", ""))

    def json(self, cases: Sequence[Case]) -> str:
        """Return the summary with counts and a short record per case, as JSON."""
        found = Counter(case.outcome for case in cases)
        records = [
            {
                "id": case.id,
                "outcome": case.outcome,
                "duration": case.duration,
                "reason": case.reason,
                "rules": case.markers.get("rule", []),
                "upstream": case.markers.get("upstream", []),
                "fixed_by": case.markers.get("fixed_by", []),
                "deviation": case.deviation,
                "kernel_complaints": case.complaints,
            }
            for case in cases
        ]
        counts = {outcome: found[outcome] for outcome in OUTCOMES}
        whole = {**asdict(self), "digest": digest_text.as_json(self.digest)}
        return json.dumps({**whole, "counts": counts, "cases": records}, indent=2) + "\n"

    def write(self, folder: Path, cases: Sequence[Case]) -> None:
        """Write `junit.xml`, `results.ktap` and `summary.json` into *folder*."""
        document = junit.Document()
        for case in cases:
            document.add(case)
        names = ("kernel", "backend", "verdict")
        properties = digest_text.properties(self.digest) | self.environment
        properties |= {name: getattr(self, name) for name in names}
        with (folder / "junit.xml").open("w", encoding="utf-8") as file:
            document.write(
                file,
                name="open_tree_ns",
                properties=properties,
                stamp=self.started,
                lost=self.incomplete,
            )
        text = ktap.document(cases, self.incomplete)
        (folder / "results.ktap").write_text(text, encoding="utf-8")
        (folder / "summary.json").write_text(self.json(cases), encoding="utf-8")


# --- where a guest's time went -------------------------------------------------------------------

#: In their order. "firmware" ends with the kernel's first instructions, "kernel" when it starts
#: process 1, "Python" when that can run our code, "init" when the guest has told the host so.
#: Without time stamps in the kernel's log two of them cannot be told apart.
_BOTH = "kernel and Python"
_NAMES = (
    *("host set-up", "firmware", "kernel", "Python", _BOTH, "init"),
    *("pytest", "collection", "cases", "power-off"),
)
#: Messages of the guest that end a phase.
_MESSAGES = {
    "init": Kind.HELLO,
    "pytest": Kind.READY,
    "collection": Kind.COLLECTED,
    "cases": Kind.END,
}


def phases(begin: float, records: Records, ending: Ending) -> dict[str, float]:
    """Seconds per phase, as far as it came; *begin* is when the launcher began with this kernel.

    What happens before the guest can speak is told by its own clock, which starts with the kernel.
    """
    ends = {"host set-up": ending.times["start"]}
    if Kind.HELLO in records.first:
        kernel = records.first[Kind.HELLO] - records.guest_first[Kind.HELLO]
        ends["firmware"] = kernel
        if "kernel" in records.started:
            ends["kernel"] = kernel + records.started["kernel"]
        ends["Python" if "kernel" in ends else _BOTH] = kernel + records.started["python"]
    elif "console" in ending.times:
        ends["firmware"] = ending.times["console"]
    for name, message in _MESSAGES.items():
        if message in records.first:
            ends[name] = records.first[message]
    reached = _NAMES.index(next(reversed(ends)))
    ends[_NAMES[min(reached + 1, len(_NAMES) - 1)]] = ending.times["end"]
    found, last = {}, begin
    for name, at in ends.items():
        found[name] = round(max(0.0, at - last), 2)
        last = max(last, at)
    return found


def described(found: dict[str, float]) -> str:
    """Return the phases as a line to print."""
    return "phases: " + ", ".join(f"{name} {value:.2f} s" for name, value in found.items())
