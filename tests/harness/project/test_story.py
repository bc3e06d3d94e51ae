# SPDX-License-Identifier: GPL-2.0-only
"""All reports tell the same story: the tables of vm/RESULTS.md, line by line, against real runs.

One session has a case for every line. It is run as a guest runs it, so that the terminal, the
plugins' reports and the guest's reports come from one and the same run.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.harness.helpers import story
from tests.harness.helpers.story import PREFIXES, READERS, Session
from tests.harness.helpers.suite import HEADER
from tests.utils.report import header

#: Line of the table -> its case.
STORY = {
    "passes": "test_story.py::test_pass",
    "fails": "test_story.py::test_fail",
    "breaks in set-up": "test_story.py::test_set_up",
    "breaks in tear-down": "test_story.py::test_tear_down",
    "fails, then breaks in tear-down": "test_story.py::test_fail_and_tear_down",
    "runs out of time": "test_story.py::test_timeout",
    "is killed by a signal": "test_story.py::test_signal",
    "makes the kernel complain": "test_story.py::test_complaint",
    "is skipped": "test_story.py::test_skip",
    "fails as expected": "test_story.py::test_xfail",
    "passes against expectation": "test_story.py::test_xpass",
    "passes against strict expectation": "test_story.py::test_strict_xpass",
    "fails and is waived": "test_story.py::test_waived",
    "fails in a subtest": "test_story.py::test_subtests",
    "skips a subtest": "test_story.py::test_skipped_subtest",
    "is in a broken module": "test_broken.py",
    "is in a skipped module": "test_skipped.py",
}
CASES = (
    HEADER
    + r"""
@pytest.fixture
def broken(): raise OSError(5, "broken")
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
def test_pass(record_property): record_property("key", 1); print("not ok 1 said by the case")
@pytest.mark.fixed_by("0febe278ec45", "7.2.11", "a fix")
@pytest.mark.rule("F1", "F2")
def test_fail(): print("said: # SKIP\x00\x1b[31m\ufffe"); assert "\x00\ufffe" == 2
def test_set_up(broken): pass
def test_tear_down(breaks): pass
def test_fail_and_tear_down(breaks): assert 0
@pytest.mark.timeout(1)
def test_timeout(): time.sleep(60)
def test_signal(): os.kill(os.getpid(), signal.SIGSEGV)
def test_complaint():
    from conftest import say, task
    say("BUG: by the kernel", task())
def test_skip(): pytest.skip("no # such feature")
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(reason="known", strict=False)
def test_xpass(): pass
@pytest.mark.xfail(reason="known", strict=True)
def test_strict_xpass(): pass
def test_waived(): assert 0
IDS = ["a b", "a/b", "a#b", "x # SKIP", "[FAIL]", "1..3"]
IDS += ["\u00e9\u2028", "n\nl", "\x1b[31mc\x00", "<&\"'>"]
@pytest.mark.parametrize("x", range(len(IDS)), ids=IDS)
def test_id(x): pass
"""
)
#: Of pytest 9, or of the plugin pytest-subtests.
SUBTESTS = """
def test_subtests(subtests):
    for n in range(3):
        with subtests.test("even", n=n): assert n % 2 == 0
def test_skipped_subtest(subtests):
    with subtests.test("one"): pytest.skip("here")
"""


def has_subtests(config: pytest.Config) -> bool:
    """Whether the installed pytest, or the plugin pytest-subtests, has the fixture."""
    return config.pluginmanager.has_plugin("subtests")


@pytest.fixture(scope="module", params=[(), ("-n", "2")], ids=["serial", "n2"])
def session(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The session with a case for every line."""
    return story.run(
        tmp_path_factory.mktemp("story"),
        CASES + (SUBTESTS if has_subtests(request.config) else ""),
        *request.param,
        test_broken="import no_such_module",
        test_skipped="import pytest; pytest.skip('not here', allow_module_level=True)",
    )


# --- the story ----------------------------------------------------------------------------------


def test_the_table_has_a_line_per_case_and_a_column_per_reader() -> None:
    rows = story.table("a case that")
    assert [row["a case that"] for row in rows] == list(STORY)
    assert list(rows[0])[1:] == list(READERS)


@pytest.mark.parametrize("reader", READERS)
def test_a_reader_is_told_what_the_table_says(
    session: Session, reader: str, pytestconfig: pytest.Config
) -> None:
    told = {STORY[row["a case that"]]: row[reader] for row in story.table("a case that")}
    if not has_subtests(pytestconfig):
        told = {name: word for name, word in told.items() if "subtest" not in name}
    for prefix in PREFIXES.get(reader, ("",)):
        found = READERS[reader](session, prefix)
        assert {name: found.get(name) for name in told} == told
        # Whatever stands in the id of a case, it is there once and did pass.
        others = [word for name, word in found.items() if "::test_id[" in name]
        assert others == [told["test_story.py::test_pass"]] * 10
        assert len(found) == len(told) + 10


def test_the_sums_agree(session: Session) -> None:
    counts = Counter(story.summary(session, "").values())
    assert session.summary["counts"] == {**dict.fromkeys(session.summary["counts"], 0), **counts}
    bad = counts["error"] + counts["timeout"]
    totals = (
        f"# Totals: pass:{counts['passed']} fail:{counts['failed']} xfail:{counts['xfailed']}"
        f" xpass:{counts['xpassed']} skip:{counts['skipped']} error:{bad}"
    )
    for name in ("pytest.ktap", "results.ktap"):
        text = (session.folder / name).read_text().splitlines()
        assert text[1] == f"1..{counts.total()}"
        assert text[-1] == totals
    for name in ("pytest.xml", "junit.xml"):
        suite = ElementTree.parse(session.folder / name).find("testsuite")
        assert suite is not None
        assert {
            key: int(suite.get(key, "")) for key in ("tests", "failures", "errors", "skipped")
        } == {
            "tests": counts.total(),
            "failures": counts["failed"],
            "errors": bad,
            "skipped": counts["skipped"] + counts["xfailed"],
        }
    words = Counter(
        word for words in story.terminal(session, "").values() for word in words.split(", ")
    )
    (line,) = re.findall(r"^=+ (.*) in [\d.]+s.* =+$", session.terminal, re.M)
    said = {word: int(count) for count, word in re.findall(r"(\d+) (\w+)(?:,|$)", line)}
    assert said == {
        "failed": words["FAILED"] + words["SUBFAILED"],
        "passed": words["PASSED"],
        "skipped": words["SKIPPED"] + words["SUBSKIPPED"],
        "xfailed": words["XFAIL"],
        "xpassed": words["XPASS"],
        "errors": words["ERROR"] + words["TIMEOUT"],
    }
    assert session.verdict.text == (
        f"{counts['failed']} failed, {bad} errors, {counts['passed']} passed,"
        f" {counts['skipped']} skipped, {counts['xfailed']} xfailed, {counts['xpassed']} xpassed"
    )


def test_kunit_counts_as_the_summary_does(session: Session) -> None:
    counts = session.summary["counts"]
    for prefix in ("pytest", "results"):
        assert story.kunit_json(session, prefix)["misc"] == {
            "tests": sum(counts.values()),
            "passed": counts["passed"] + counts["xfailed"] + counts["xpassed"],
            "failed": counts["failed"] + counts["error"] + counts["timeout"],
            "skipped": counts["skipped"],
            "crashed": 0,
            "errors": 0,
        }


def test_the_exit_status_says_that_there_is_something_bad(session: Session) -> None:
    assert session.status == 1
    assert session.verdict.status == 1
    assert session.summary["incomplete"] == ""


def test_a_failure_tells_everywhere_what_fixed_it_and_how_to_see_it_again(session: Session) -> None:
    failing = STORY["fails"]
    texts = {"terminal": session.terminal}
    for name in ("pytest.ktap", "results.ktap"):
        text = (session.folder / name).read_text()
        # What is right before the result.
        (texts[name],) = re.findall(rf"((?:^# .*\n)+)^not ok \d+ {failing} #", text, re.M)
    for name in ("pytest.xml", "junit.xml"):
        (element,) = ElementTree.parse(session.folder / name).iterfind(".//*[@name='test_fail']/*")
        texts[name] = element.text or ""
    for name, text in texts.items():
        assert '0febe278ec45 ("a fix") (7.2.11)' in text, name
        assert f"pytest '{failing}'" in text, name
        assert "said: " in text, name


def test_what_the_kernel_said_is_told_everywhere(session: Session) -> None:
    line = "BUG: by the kernel"
    assert session.terminal.count(f"] {line}") == 1
    for name in ("pytest.ktap", "results.ktap", "pytest.xml", "junit.xml"):
        assert (session.folder / name).read_text().count(f"] {line}") == 1, name
    told = [(one["id"], one["kernel_complaints"]) for one in session.summary["cases"]]
    assert [one for one in told if one[1]] == [(STORY["makes the kernel complain"], [line])]


def test_recorded_properties_reach_junit(session: Session) -> None:
    for name in ("pytest.xml", "junit.xml"):
        tree = ElementTree.parse(session.folder / name)
        (found,) = tree.iterfind(".//*[@name='test_pass']/properties/property")
        assert found.attrib == {"name": "key", "value": "1"}


def test_the_summary_has_the_rules_and_the_fix(session: Session) -> None:
    (case,) = (one for one in session.summary["cases"] if one["id"] == STORY["fails"])
    assert case["rules"] == ["F1", "F2"]
    assert case["fixed_by"] == ["0febe278ec45", "7.2.11", "a fix"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_raw_ids_harm_no_report(tmp_path: Path, workers: tuple[str, ...]) -> None:
    ids = ["\u00e9", "a\u2028b", "n\nl", "\x1b[31mc\x07", "# SKIP", "\ufffe", "<&"]
    source = f"{HEADER}\n@pytest.mark.parametrize('x', range(7), ids={ids!a})\ndef test(x): pass\n"
    option = "disable_test_id_escaping_and_forfeit_all_rights_to_community_support=True"
    session = story.run(tmp_path, source, *workers, "-o", option)
    assert session.status == 0, session.terminal
    assert {case["id"] for case in session.summary["cases"]} == {
        f"test_story.py::test[{one}]" for one in ids
    }
    for prefix in PREFIXES["KTAP"]:
        assert set(story.ktap(session, prefix)) == {
            f"test_story.py::test[{one}]"
            for one in ("\u00e9", "a b", "n l", "c?", "/ SKIP", "?", "<&")
        }
    for prefix in PREFIXES["JUnit"]:
        found = story.junit(session, prefix)
        assert list(found.values()) == [""] * 7
        assert "test_story.py::test[n\nl]" in found


def test_the_facts_of_the_run_are_everywhere(session: Session) -> None:
    known = asdict(header.facts())
    environment = session.summary["environment"]
    # What the guest's process 1 says stands.
    assert environment == {**known, "release": "7.9.1"}
    for name, release in (("pytest.xml", known["release"]), ("junit.xml", "7.9.1")):
        found = ElementTree.parse(session.folder / name).iterfind("testsuite/properties/property")
        values = {one.get("name"): one.get("value") for one in found}
        expected = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in {**known, "release": release}.items()
        }
        assert {key: values.get(key) for key in expected} == expected
    for text in (known["version"], known["probe"], known["caller"]):
        assert text in session.terminal
