# SPDX-License-Identifier: GPL-2.0-only
"""From a guest's stream and end to a verdict: whole, cut, crashed, hung, and never booted."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from vm import console
from vm.errors import Exit
from vm.guest import Ending, Stop
from vm.records import Records
from vm.verdict import Verdict, combine, judge

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
    assert "sysrq triggered crash in t.py::two, lacking 0123456789ab" in found.text
    assert '("mount: stop crashing") (7.9): 1 passed before' in found.text
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
    ],
)
def test_a_kernel_that_does_not_boot_is_no_failure_of_a_case(
    ending: Ending, log: tuple[str, ...], status: Exit, words: str
) -> None:
    found = verdict(Stream(), ending, log)
    assert found.status is status
    assert re.search(words, found.text)


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
    assert "sysrq triggered crash in t.py::one" in found.text
    assert found.lost


def test_a_message_cut_in_the_middle_is_counted_and_the_rest_stands() -> None:
    data = Stream().begin().case(IDS[0]).case(IDS[1]).data
    records = records_of(data[:-30])
    assert list(records.results) == [IDS[0]]
    assert records.running == IDS[1]
    assert records.lost == 1


def test_bytes_may_come_in_any_pieces() -> None:
    data = Stream().begin().case("t.py::ü").add("text", "init", text="a…b").end(0).data
    records = Records("N")
    text = "".join(records.feed(data[n : n + 1]) for n in range(len(data)))
    assert (text, list(records.results), records.lost) == ("a…b", ["t.py::ü"], 0)


def test_a_missing_message_is_noticed() -> None:
    lines = Stream().begin().case(IDS[0]).end(0).data.splitlines(keepends=True)
    whole, gap = records_of(b"".join(lines)), records_of(b"".join(lines[:2] + lines[3:]))
    assert (whole.lost, gap.lost) == (0, 1)
    assert judge(gap, EXITED, ()).status is Exit.FAILED


def test_only_the_runs_own_messages_count() -> None:
    stream = Stream().begin().add("end", "init", nonce="other", status=0)
    records = records_of(stream.data + b'{"half": \n[1]\n\xff\xfe\n')
    assert records.status is None
    assert records.lost == 4


@pytest.mark.parametrize(
    "line",
    [
        "[    1.000000] Kernel panic - not syncing: Attempted to kill init!",
        "Kernel panic - not syncing: no stamp",
        "<4>[    1.0] BUG: KASAN: slab-use-after-free in mntput+0x1/0x2",
        "[    1.0][    T1] BUG: kernel NULL pointer dereference, address: 0000000000000000",
        "[    1.0][   C12] WARNING: suspicious RCU usage\r\n",
    ],
)
def test_a_complaint_is_recognised_behind_its_time_stamp(line: str) -> None:
    assert console.splats([line]) == [line]


def test_ordinary_lines_are_no_complaint() -> None:
    assert console.splats(["[    0.1] Spectre V2 : WARNING: by the way", "[    0.1] INFO: x"]) == []


OOPS = """\
[    1.0] RIP: 0033:0x7f12
[    2.0] BUG: kernel NULL pointer dereference, address: 0000000000000008
[    2.0] Oops: 0002 [#1] SMP NOPTI
[    2.0] RIP: 0010:copy_tree+0x16/0x20
[    2.0] Call Trace:
[    2.0]  <TASK>
[    2.0]  ? __die+0x1/0x2
[    2.0]  vfs_open_tree+0x129/0x338
[    2.0]  ? stale+0x1/0x2
[    2.0]  __x64_sys_open_tree+0x4f/0xb1 [a_module]
[    2.0]  </TASK>
[    2.0] Modules linked in:
[    2.0]  not_of_the_trace+0x1/0x2
"""
UML_OOPS = """\
RIP: 0033:create_new_namespace+0x1d4/0x472
Kernel panic - not syncing: Kernel mode fault at addr 0x8, ip 0x60198d3f
Stack:
 808cbc40 605b96fc 00000001 605b96fc
Call Trace:
 [<60199106>] vfs_open_tree+0x129/0x338
 [<600374e9>] ? copy_chunk_to_user+0x0/0x29
 [<60199d8c>] sys_open_tree+0x4f/0xb1
"""
REPORTED = """\
[    1.0][    T1] BUG: KASAN: slab-use-after-free in mntput+0x1/0x2
[    1.0][    T1] Call Trace:
[    1.0][    T1]  <TASK>
[    1.0][    T1]  dump_stack_lvl+0x5d/0x80
[    1.0][    T1]  print_report+0xd1/0x650
[    1.0][    T1]  kasan_report+0xce/0x100
[    1.0][    T1]  panic_was_before_me+0x0/0x95
[    1.0][    T1]  mntput+0x1/0x2
[    1.0][    T1]  path_put+0x1/0x2
[    1.0][    T1]  mntput+0x1/0x2
"""


@pytest.mark.parametrize(
    ("log", "frames"),
    [
        (
            OOPS,
            ["copy_tree+0x16/0x20", "vfs_open_tree+0x129/0x338", "__x64_sys_open_tree+0x4f/0xb1"],
        ),
        (
            UML_OOPS,
            [
                "create_new_namespace+0x1d4/0x472",
                "vfs_open_tree+0x129/0x338",
                "sys_open_tree+0x4f/0xb1",
            ],
        ),
        (REPORTED, ["mntput+0x1/0x2", "path_put+0x1/0x2"]),
        ("[    1.0] BUG: without a trace\n", []),
        ("[    1.0] all is well\n[    1.0] Call Trace:\n[    1.0]  x+0x1/0x2\n", []),
        ("", []),
    ],
    ids=["oops", "uml", "reported", "no trace", "no complaint", "nothing"],
)
def test_the_functions_on_top_of_the_stack_are_found(log: str, frames: list[str]) -> None:
    assert console.top_frames(log.splitlines()) == frames


def test_only_the_top_of_a_deep_stack_is_shown() -> None:
    trace = [" ".join(["", f"f{n}+0x1/0x2"]) for n in range(30)]
    assert console.top_frames(["BUG: x", "Call Trace:", *trace]) == [
        f"f{n}+0x1/0x2" for n in range(5)
    ]
