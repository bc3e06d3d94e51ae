# SPDX-License-Identifier: GPL-2.0-only
"""A guest's stream that is cut, has gaps, or holds what others wrote."""

from __future__ import annotations

from tests.harness.helpers.stream import IDS, Stream, records_of
from vm.errors import Exit
from vm.report.verdict import judge
from vm.run.guest import Ending, Stop
from vm.run.stream import Records


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
    assert judge(gap, Ending(Stop.EXITED, 0, "", 100, {}), ()).status is Exit.FAILED


def test_only_the_runs_own_messages_count() -> None:
    stream = Stream().begin().add("end", "init", nonce="other", status=0)
    records = records_of(stream.data + b'{"half": \n[1]\n\xff\xfe\n')
    assert records.status is None
    assert records.lost == 4
