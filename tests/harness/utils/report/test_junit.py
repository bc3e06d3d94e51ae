# SPDX-License-Identifier: GPL-2.0-only
"""JUnit XML as text: its form for each outcome, and what its readers cannot do without."""

from __future__ import annotations

import io
from datetime import datetime
from xml.etree import ElementTree

from tests.harness.helpers.cases import CASES
from tests.utils.report import junit
from tests.utils.report.case import Case


def document(cases: list[Case], lost: str = "", **properties: object) -> ElementTree.Element:
    """The suite of a document with *cases*."""
    made = junit.Document()
    for case in cases:
        made.add(case)
    file = io.StringIO()
    made.write(file, name="suite", properties=properties, stamp="2026-01-02T03:04:05Z", lost=lost)
    root = ElementTree.fromstring(file.getvalue().encode())
    assert root.tag == "testsuites"
    (suite,) = root
    return suite


def test_each_outcome_has_its_form() -> None:
    suite = document(CASES)
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "8",
        "failures": "2",
        "errors": "2",
        "skipped": "2",
    }
    kinds = [
        [(child.tag, child.get("type"), child.get("message")) for child in case]
        for case in suite.iter("testcase")
    ]
    assert kinds == [
        [],
        [("failure", "failed", "AssertionError: no")],
        [("error", "error", "OSError: gone")],
        [("error", "timeout", "Timeout (>1 s) in call")],
        [("skipped", "pytest.skip", "no # feature")],
        [("skipped", "pytest.xfail", "bug 1")],
        [],
        [("failure", "failed", "[XPASS(strict)] bug 3")],
    ]


def test_names_are_pytests() -> None:
    names = [(case.get("classname"), case.get("name")) for case in document(CASES).iter("testcase")]
    assert names[1] == ("tests.a.test_x", "test_fail[a#b]")
    assert names[2] == ("tests.a.test_x.T", "test_error")


def test_all_there_is_to_say_is_in_one_element() -> None:
    case = Case("x.py::y", "failed", "no", text="E  no", sections={"reproduce": "pytest 'x.py::y'"})
    (element,) = document([case]).iter("testcase")
    (failure,) = element
    assert failure.text == "E  no\n--- reproduce ---\npytest 'x.py::y'"


def test_the_suite_has_the_facts_of_the_run_and_why_it_was_lost() -> None:
    suite = document(CASES, "panic", release="7.9", cpus=2, packages={"a": "1"})
    values = {p.get("name"): p.get("value") for p in suite.iter("property")}
    assert values == {"release": "7.9", "cpus": "2", "packages": '{"a": "1"}'}
    assert suite.findtext("system-err") == "panic"


def test_it_has_the_shape_that_readers_expect() -> None:
    suite = document(CASES, "panic", release="7.9")
    assert [child.tag for child in suite] == ["properties", *["testcase"] * 8, "system-err"]
    for case in suite.iter("testcase"):
        assert set(case.attrib) == {"classname", "name", "time"}
        assert float(case.get("time", "")) >= 0
        assert len(case) <= 1
    datetime.fromisoformat(suite.get("timestamp", ""))


def test_what_a_case_has_recorded_comes_first() -> None:
    case = Case("x.py::y", "skipped", "no", properties={"a": "b", "n": [1]})
    (element,) = document([case]).iter("testcase")
    assert [child.tag for child in element] == ["properties", "skipped"]
    assert [p.attrib for p in element[0]] == [
        {"name": "a", "value": "b"},
        {"name": "n", "value": "[1]"},
    ]


def test_no_character_that_xml_forbids() -> None:
    case = Case(
        "x.py::y[\x00\n<&\"'>]",
        "failed",
        "a\x1b[31mb\x07",
        text="\ud800\uffff",
        sections={"o": "\x01"},
    )
    (element,) = document([case], "\x02", fact="\x03").iter("testcase")
    assert element.get("name") == "y[?\n<&\"'>]"
    failure = element.find("failure")
    assert failure is not None
    assert (failure.get("message"), failure.text) == ("ab?", "??\n--- o ---\n?")
