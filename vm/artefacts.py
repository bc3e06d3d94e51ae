# SPDX-License-Identifier: GPL-2.0-only
"""Writes a run's results for other programs: JUnit XML, KTAP and a JSON summary."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.utils import ktap
from vm.records import Case

#: What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", _ANSI.sub("", text))


def _names(case: str) -> tuple[str, str]:
    """(classname, name) as pytest's own JUnit report has them."""
    head, bracket, parameters = case.partition("[")
    path, *rest = head.split("::")
    parts = path.removesuffix(".py").split("/") + rest
    name = parts.pop() if rest else parts[-1]
    return ".".join(parts), name + bracket + parameters


def junit(cases: Sequence[Case], environment: Mapping[str, Any], stamp: str, lost: str) -> bytes:
    """The JUnit document. *stamp* is the start as ISO 8601, *lost* why the run broke off."""
    kinds = [case.outcome for case in cases]
    suite = ElementTree.Element(
        "testsuite",
        name="open_tree_ns",
        tests=str(len(cases)),
        failures=str(sum(kind in ("failed", "xpassed") for kind in kinds)),
        errors=str(sum(kind in ("error", "timeout") for kind in kinds)),
        skipped=str(sum(kind in ("skipped", "xfailed") for kind in kinds)),
        time=f"{sum(case.duration for case in cases):.3f}",
        timestamp=stamp,
        hostname=_clean(str(environment.get("release", "guest"))),
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in sorted(environment.items()):
        text = value if isinstance(value, str) else json.dumps(value)
        ElementTree.SubElement(properties, "property", name=name, value=_clean(text))
    for case in cases:
        suite.append(_junit_case(case))
    if lost:
        ElementTree.SubElement(suite, "system-err").text = _clean(lost)
    root = ElementTree.Element("testsuites", name="open_tree_ns")
    root.append(suite)
    ElementTree.indent(root)
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _junit_case(case: Case) -> ElementTree.Element:
    classname, name = _names(case.id)
    element = ElementTree.Element(
        "testcase", classname=_clean(classname), name=_clean(name), time=f"{case.duration:.3f}"
    )
    message = _clean(case.reason.partition("\n")[0])
    match case.outcome:
        case "failed" | "xpassed":
            ElementTree.SubElement(element, "failure", message=message).text = _clean(case.text)
        case "error" | "timeout":
            ElementTree.SubElement(
                element, "error", type=case.outcome, message=message
            ).text = _clean(case.text or case.reason)
        case "skipped" | "xfailed":
            kind = "pytest.skip" if case.outcome == "skipped" else "pytest.xfail"
            ElementTree.SubElement(element, "skipped", type=kind, message=message)
    output = [f"--- {title} ---\n{text}" for title, text in case.sections.items()]
    if output:
        ElementTree.SubElement(element, "system-out").text = _clean("\n".join(output))
    return element


def ktap_document(cases: Sequence[Case], lost: str) -> str:
    """The KTAP document."""
    names = ktap.unique_names(case.id for case in cases)
    results = [ktap.Result(names[c.id], c.outcome, c.duration, c.reason, c.text) for c in cases]
    return ktap.document(results, lost)


def summary(cases: Sequence[Case], head: Mapping[str, Any]) -> str:
    """The JSON summary: *head* (verdict and environment) and a short record per case."""
    records = [
        {
            "id": case.id,
            "outcome": case.outcome,
            "duration": case.duration,
            "reason": case.reason,
            "rules": case.markers.get("rule", []),
            "upstream": case.markers.get("upstream", []),
            "fixed_by": case.markers.get("fixed_by", []),
        }
        for case in cases
    ]
    return json.dumps({**head, "cases": records}, indent=2) + "\n"


def write(
    folder: Path, cases: Sequence[Case], head: Mapping[str, Any], stamp: str, lost: str
) -> None:
    """Write `junit.xml`, `results.ktap` and `summary.json` into *folder*."""
    properties = dict(head["environment"]) | {
        name: head[name] for name in ("kernel", "backend", "verdict")
    }
    (folder / "junit.xml").write_bytes(junit(cases, properties, stamp, lost))
    (folder / "results.ktap").write_text(ktap_document(cases, lost))
    (folder / "summary.json").write_text(summary(cases, head))
