# SPDX-License-Identifier: GPL-2.0-only
"""From a guest's stream and end to a verdict: whole, cut, crashed, hung, and never booted."""

from __future__ import annotations

import re

import pytest

from tests.harness.helpers.stream import IDS, MARKERS, Stream, records_of
from vm.errors import Exit
from vm.report.verdict import Verdict, combine, judge
from vm.run.guest import Ending, Stop

EXITED = Ending(Stop.EXITED, 0, "", 100, {})
BOOT_LIMIT = Ending(Stop.BOOT_LIMIT, None, "", 100, {})
RUN_LIMIT = Ending(Stop.RUN_LIMIT, None, "", 100, {})
PANIC = "[    3.141592] Kernel panic - not syncing: sysrq triggered crash"


def verdict(stream: Stream, ending: Ending = EXITED, log: tuple[str, ...] = ()) -> Verdict:
    return judge(records_of(stream.data), ending, log)


def test_all_passed_is_good() -> None:
    found = verdict(Stream().begin().case(IDS[0]).case(IDS[1]).case(IDS[2]).end(0))
    assert (found.status, found.text, found.lost) == (Exit.OK, "3 passed", "")
    assert found.cases[0].markers == MARKERS


@pytest.mark.parametrize(
    ("outcome", "word"), [("failed", "failed"), ("error", "error"), ("timeout", "error")]
)
def test_one_bad_case_is_a_failure(outcome: str, word: str) -> None:
    found = verdict(Stream().begin().case(IDS[0]).case(IDS[1], outcome).end(1))
    assert found.status is Exit.FAILED
    assert found.text == f"1 {word}, 1 passed"


@pytest.mark.parametrize("outcome", ["xfailed", "xpassed"])
def test_what_is_not_strictly_expected_is_good(outcome: str) -> None:
    found = verdict(Stream().begin().case(IDS[0], outcome).end(0))
    assert (found.status, found.text) == (Exit.OK, f"1 {outcome}")


def test_nothing_but_skips_tested_nothing() -> None:
    found = verdict(Stream().begin().case(IDS[0], "skipped", "no OPEN_TREE_NAMESPACE").end(0))
    assert found.status is Exit.NOTHING
    assert "no OPEN_TREE_NAMESPACE" in found.text


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, Exit.NOTHING), (5, Exit.NOTHING), (4, Exit.USAGE), (2, Exit.FAILED), (3, Exit.FAILED)],
)
def test_pytests_own_status_counts(status: int, expected: Exit) -> None:
    assert verdict(Stream().begin().end(status)).status is expected


def test_a_death_of_pytest_is_a_failure() -> None:
    assert verdict(Stream().begin().case(IDS[0]).end(-9)).status is Exit.FAILED


def test_a_module_that_cannot_be_collected_is_an_error() -> None:
    stream = Stream().hello()
    case = {"id": "t.py", "outcome": "error", "reason": "SyntaxError"}
    found = verdict(stream.add("result", case=case).end(2))
    assert found.status is Exit.FAILED
    assert [(case.id, case.outcome) for case in found.cases] == [("t.py", "error")]


def test_a_panic_names_the_case_and_keeps_what_came_before() -> None:
    stream = Stream().begin().case(IDS[0]).add("start", id=IDS[1], markers=MARKERS)
    found = verdict(stream, EXITED, (PANIC,))
    assert found.status is Exit.FAILED
    assert found.text == (
        "1 error, 1 passed, 1 not run; Kernel panic - not syncing: sysrq triggered crash in"
        ' t.py::two, lacking 0123456789ab ("mount: stop crashing") (7.9)'
    )
    assert [case.unreached for case in found.cases] == [False, False, True]
    assert [case.outcome for case in found.cases] == ["passed", "error", "error"]
    assert "while this case ran" in found.cases[1].reason
    assert found.cases[1].sections == {
        "a kernel without this fix fails here": '0123456789ab ("mount: stop crashing") (7.9)',
        "reproduce": f"pytest '{IDS[1]}'",
    }
    assert "did not run" in found.cases[2].reason
    assert found.lost


def test_a_hang_is_the_run_limit_and_a_timeout_of_the_case() -> None:
    found = verdict(Stream().begin().add("start", id=IDS[0], markers=MARKERS), RUN_LIMIT)
    assert found.status is Exit.RUN_LIMIT
    assert [case.outcome for case in found.cases] == ["timeout", "error", "error"]


def test_a_hang_that_the_kernel_complained_of_is_a_failure() -> None:
    log = ("[  100.0] INFO: task pytest:1 blocked for more than 60 seconds.",)
    assert verdict(Stream().begin(), RUN_LIMIT, log).status is Exit.FAILED


def test_a_guest_that_ends_without_a_word_is_lost() -> None:
    found = verdict(Stream().begin().case(IDS[0]))
    assert found.status is Exit.FAILED
    assert found.lost == "the guest ended without a word"


def test_a_complaint_on_the_console_fails_a_run_that_passed() -> None:
    line = "[    1.0] WARNING: CPU: 0 PID: 7 at fs/namespace.c:1 x+0x1/0x2"
    found = verdict(Stream().begin().case(IDS[0]).end(0), EXITED, ("ordinary", line))
    assert found.status is Exit.FAILED
    assert found.splats == [line]


def test_what_a_case_failed_for_is_not_told_a_second_time() -> None:
    line = "[    1.0] WARNING: fs/namespace.c:1 at x+0x1/0x2, CPU#0: case-7/8"
    told = [line.partition("] ")[2]]
    found = verdict(Stream().begin().case(IDS[0], "failed", "", told).end(1), EXITED, (line,))
    assert (found.text, found.splats) == ("1 failed", [])
    # The same again is another one; and in a waived case it is known.
    twice = verdict(Stream().begin().case(IDS[0], "failed", "", told).end(1), EXITED, (line, line))
    assert (twice.text, twice.splats) == ("1 failed, and the kernel complained", [line])
    waived = verdict(Stream().begin().case(IDS[0], "xfailed", "", told).end(0), EXITED, (line,))
    assert waived.status is Exit.OK


@pytest.mark.parametrize(
    ("stream", "log"),
    [
        (Stream().begin().case(IDS[0]).end(0), ("[    1.0] Oops: 0002 [#1] SMP NOPTI",)),
        (Stream().begin().case(IDS[0]), ()),
        (Stream().begin().case(IDS[0]).end(2), ()),
        (Stream().begin().end(4), ()),
        (Stream(), ("ACPI",)),
    ],
    ids=["splat", "no end", "pytest.exit", "usage", "not booted"],
)
def test_a_run_that_is_no_good_has_a_case_that_is_none(
    stream: Stream, log: tuple[str, ...]
) -> None:
    found = combine([verdict(stream, EXITED, log)])
    assert found.status is not Exit.OK
    assert any(case.bad for case in found.cases)
    # And where a case says so, no other is made up.
    with_bad = verdict(Stream().begin().case(IDS[0], "failed").end(1), EXITED, log)
    assert [case.id for case in combine([with_bad]).cases] == [IDS[0]]


def test_a_run_that_pytest_ended_early_says_so() -> None:
    stream = Stream().begin().case(IDS[0], "failed")
    stream.add("finished", lost="stopping after 1 failures", waivers=[]).end(1)
    found = combine([verdict(stream), verdict(Stream().begin().case(IDS[1]).end(0))])
    assert found.incomplete == "stopping after 1 failures"
    assert not found.lost


@pytest.mark.parametrize(
    ("ending", "log", "status", "words"),
    [
        (BOOT_LIMIT, ("[    1.0] ACPI: bus",), Exit.NOT_BOOTED, "boot limit .* ACPI: bus"),
        (EXITED, (PANIC,), Exit.NOT_BOOTED, "sysrq triggered"),
        (Ending(Stop.BOOT_LIMIT, None, "", 0, {}), (), Exit.NOT_BOOTED, "SERIAL_8250_CONSOLE"),
        (Ending(Stop.EXITED, 1, "a\nbad image", 0, {}), (), Exit.HOST, "started: bad image$"),
        (Ending(Stop.EXITED, -11, "", 0, {}), (), Exit.HOST, "exit status -11"),
        (Ending(Stop.EXITED, -9, "checking", 0, {}), (), Exit.HOST, "killed from outside"),
        # User-Mode Linux is the kernel: its crash is no fault of the host's.
        (Ending(Stop.EXITED, -11, "", 0, is_kernel=True), (), Exit.NOT_BOOTED, "died of SIGSEGV"),
        (Ending(Stop.EXITED, 1, "no", 0, is_kernel=True), (), Exit.HOST, "started: no"),
        (Ending(Stop.EXITED, -6, "", 9, trouble="full\nhint: x"), (PANIC,), Exit.HOST, "^full$"),
    ],
)
def test_a_kernel_that_does_not_boot_is_no_failure_of_a_case(
    ending: Ending, log: tuple[str, ...], status: Exit, words: str
) -> None:
    found = verdict(Stream(), ending, log)
    assert found.status is status
    assert re.search(words, found.text)


def test_a_guest_that_dies_of_the_hosts_trouble_blames_no_case_and_no_fix() -> None:
    stream = Stream().begin().case(IDS[0]).add("start", id=IDS[1], markers=MARKERS)
    ending = Ending(Stop.EXITED, -6, "", 100, trouble="the disk is full\nhint: make room")
    found = verdict(stream, ending, (PANIC,))
    assert found.status is Exit.HOST
    assert found.text == f"1 error, 1 passed, 1 not run; the disk is full in {IDS[1]}"
    assert [case.outcome for case in found.cases] == ["passed", "error", "error"]
    assert set(found.cases[1].sections) == {"reproduce"}


@pytest.mark.parametrize(
    ("one", "two", "status", "text"),
    [
        (Stream().begin().case("a").end(0), Stream().begin().case("b").end(0), Exit.OK, "2 passed"),
        (
            Stream().begin().case("a").end(0),
            Stream().begin().end(5),
            Exit.OK,
            "1 passed",
        ),
        (
            Stream().begin().case("a").end(0),
            Stream().begin().case("b", "failed").end(1),
            Exit.FAILED,
            "1 failed, 1 passed",
        ),
        (
            Stream().begin().end(5),
            Stream().begin().end(5),
            Exit.NOTHING,
            "nothing was tested: no case ran",
        ),
    ],
)
def test_guests_come_to_one_verdict(one: Stream, two: Stream, status: Exit, text: str) -> None:
    found = combine([verdict(one), verdict(two)])
    assert (found.status, found.text) == (status, text)


def test_a_guest_that_was_lost_loses_the_run_and_says_why() -> None:
    lost = verdict(Stream().begin().add("start", id=IDS[0], markers=MARKERS), EXITED, (PANIC,))
    found = combine([verdict(Stream().begin().case("a").end(0)), lost])
    assert found.status is Exit.FAILED
    assert found.text.startswith("1 error, 1 passed, 2 not run; Kernel panic")
    assert "sysrq triggered crash in t.py::one" in found.text
    assert found.lost
