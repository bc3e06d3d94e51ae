# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML, as its readers really read it: from cases to a document.

There is no standard. What Jenkins, GitLab and Testing Farm agree on is one ``testcase`` per case,
with at most one of ``failure``, ``error`` and ``skipped`` in it: GitLab's reader stumbles over a
second element of a name. All there is to say of a case stands in that element's text, since not all
show its message or a case's output. Names are those of pytest's own report.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from typing import TextIO
from xml.etree import ElementTree

from tests.utils.report.case import Case

#: Outcome -> the element that says so, and its type.
_FORMS = {
    "failed": ("failure", "failed"),
    "error": ("error", "error"),
    "timeout": ("error", "timeout"),
    "skipped": ("skipped", "pytest.skip"),
    "xfailed": ("skipped", "pytest.xfail"),
}
#: What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def _clean(text: str) -> str:
    return _NOT_XML.sub("?", _ANSI.sub("", text))


def _names(case: str) -> tuple[str, str]:
    """(classname, name) as pytest's own report has them."""
    head, bracket, parameters = case.partition("[")
    path, *rest = head.split("::")
    parts = path.removesuffix(".py").split("/") + rest
    name = parts.pop() if rest else parts[-1]
    return ".".join(parts), name + bracket + parameters


def _properties(values: Mapping[str, object]) -> ElementTree.Element:
    """What is no text becomes JSON."""
    element = ElementTree.Element("properties")
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        ElementTree.SubElement(element, "property", name=_clean(name), value=_clean(text))
    return element


def _testcase(case: Case) -> ElementTree.Element:
    classname, name = _names(case.id)
    element = ElementTree.Element(
        "testcase", classname=_clean(classname), name=_clean(name), time=f"{case.duration:.3f}"
    )
    if case.properties:
        element.append(_properties(case.properties))
    if case.outcome in _FORMS:
        tag, kind = _FORMS[case.outcome]
        text = case.story if case.bad else case.reason
        ElementTree.SubElement(
            element, tag, type=kind, message=_clean(case.headline)
        ).text = _clean(text or case.reason)
    return element


def _xml(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"


class Document:
    """A document in the making; what it has of each case lies in a file, not in memory."""

    def __init__(self) -> None:
        self._cases = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - see write()
        self._outcomes: Counter[str] = Counter()
        self._seconds = 0.0

    def add(self, case: Case) -> None:
        """Add the next case."""
        self._outcomes[case.outcome] += 1
        self._seconds += case.duration
        self._cases.write(_xml(_testcase(case)))

    def _attributes(self, name: str, stamp: str) -> dict[str, str]:
        elements = Counter[str]()
        for outcome, count in self._outcomes.items():
            elements[_FORMS[outcome][0] if outcome in _FORMS else ""] += count
        return {
            "name": name,
            "tests": str(self._outcomes.total()),
            "failures": str(elements["failure"]),
            "errors": str(elements["error"]),
            "skipped": str(elements["skipped"]),
            "time": f"{self._seconds:.3f}",
            "timestamp": stamp,
            "hostname": os.uname().nodename,
        }

    def write(
        self,
        file: TextIO,
        *,
        name: str,
        properties: Mapping[str, object],
        stamp: str,
        lost: str = "",
    ) -> None:
        """Write the document to *file*, which holds UTF-8.

        :param name: of the suite.
        :param properties: facts of the run.
        :param stamp: when the run began, as ISO 8601.
        :param lost: why the run did not come to its end, empty when it did.
        """
        suite = _xml(ElementTree.Element("testsuite", self._attributes(name, stamp)))
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<testsuites>\n')
        file.write(suite.removesuffix(" />\n") + ">\n")
        file.write(_xml(_properties(properties)))
        with self._cases:
            self._cases.seek(0)
            shutil.copyfileobj(self._cases, file)
        if lost:
            why = ElementTree.Element("system-err")
            why.text = _clean(lost)
            file.write(_xml(why))
        file.write("</testsuite>\n</testsuites>\n")
