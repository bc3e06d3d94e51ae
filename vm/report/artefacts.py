# SPDX-License-Identifier: GPL-2.0-only
"""Writes a run's results for other programs: JUnit XML, KTAP and a JSON summary.

RESULTS.md says what stands in them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.utils import junit, ktap
from tests.utils.results import OUTCOMES, Case


def summary(cases: Sequence[Case], head: Mapping[str, Any]) -> str:
    """The JSON summary: *head* (verdict and environment), counts, and a short record per case."""
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
            "kernel_complaints": case.complaints,
        }
        for case in cases
    ]
    counts = {outcome: found[outcome] for outcome in OUTCOMES}
    return json.dumps({**head, "counts": counts, "cases": records}, indent=2) + "\n"


def write(folder: Path, cases: Sequence[Case], head: Mapping[str, Any]) -> None:
    """Write `junit.xml`, `results.ktap` and `summary.json` into *folder*."""
    document = junit.Document()
    for case in cases:
        document.add(case)
    properties = dict(head["environment"]) | {
        name: head[name] for name in ("kernel", "backend", "verdict")
    }
    lost = head["incomplete"]
    with (folder / "junit.xml").open("w", encoding="utf-8") as file:
        document.write(
            file, name="open_tree_ns", properties=properties, stamp=head["started"], lost=lost
        )
    (folder / "results.ktap").write_text(ktap.document(cases, lost), encoding="utf-8")
    (folder / "summary.json").write_text(summary(cases, head), encoding="utf-8")
