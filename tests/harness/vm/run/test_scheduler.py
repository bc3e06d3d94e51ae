# SPDX-License-Identifier: GPL-2.0-only
"""Cases dealt out to guests: who runs which, in what order they are told, what a waiver came to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.utils.report.waivers import unneeded
from vm import paths
from vm.guest.protocol import MARK
from vm.report.verdict import combine, judge
from vm.run.guest import Ending, Stop
from vm.run.stream import Records
from vm.run.transcript import Transcript

CASES = "import pytest\n" + "".join(f"def test_{n}(): assert {n} != 3\n" for n in range(7))
WAIVERS = "".join(
    f'[[waive]]\ncase = "{case}"\nreason = "known"\n'
    for case in ("test_it.py::test_[0-3]", "test_it.py::test_4", "test_it.py::test_gone", "*_3")
).replace("[0-3]", "?")
RUNNER = """
import sys
from vm.guest.channel import Channel
from vm.guest.protocol import Kind
from vm.guest.reporter import run
line, share, only, *arguments = sys.argv[1:]
channel = Channel(int(line), "N", "init")
channel.send(Kind.HELLO, environment={}, started={"python": 0.1})
status = run(arguments, Channel(int(line), "N", "pytest"), share, only.split())
channel.send(Kind.END, status=status)
"""
Run = Callable[..., tuple[Records, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """What a guest with such a share reports, and what pytest prints there."""
    (tmp_path / "test_it.py").write_text(CASES)
    (tmp_path / "waive.toml").write_text(WAIVERS)
    (tmp_path / "pytest.ini").touch()

    def run(share: str, only: Sequence[str] = (), *words: str) -> tuple[Records, str]:
        with (tmp_path / "stream").open("wb+") as stream:
            done = subprocess.run(
                [
                    *(sys.executable, "-c", RUNNER, str(stream.fileno()), share, " ".join(only)),
                    *("-p", "no:cacheprovider", "-p", "tests.utils.report.waiver_plugin", *words),
                ],
                cwd=tmp_path,
                pass_fds=[stream.fileno()],
                env={**os.environ, "PYTHONPATH": str(paths.ROOT), "PYTEST_ADDOPTS": ""},
                capture_output=True,
                text=True,
                check=True,
            )
            stream.seek(0)
            records = Records("N")
            records.feed(stream.read())
        return records, done.stdout

    return run


def names(records: Records) -> list[str]:
    return [name.partition("::test_")[2] for name in records.results]


def test_cases_are_dealt_out_back_and_forth_and_together_are_all(run: Run) -> None:
    guests = [run(f"{n}/3")[0] for n in (1, 2, 3)]
    assert [names(records) for records in guests] == [["0", "5", "6"], ["1", "4"], ["2", "3"]]
    everywhere = {name: at for records in guests for name, at in records.places.items()}
    ending = Ending(Stop.EXITED, 0, "", 1)
    verdict = combine([judge(records, ending, ()) for records in guests], everywhere)
    assert [case.id[-1] for case in verdict.cases] == ["0", "1", "2", "3", "4", "5", "6"]


def test_a_guest_that_goes_on_for_another_runs_what_that_one_left(run: Run) -> None:
    records, _ = run("1/3", ["test_it.py::test_5", "test_it.py::test_6"])
    assert names(records) == ["5", "6"]
    assert list(records.places.values()) == [5, 6]


def test_a_waiver_needed_in_one_guest_is_needed(run: Run) -> None:
    """`test_?` is needed for test_3 alone, which one of the two guests has."""
    guests = [run(f"{n}/2", (), "--waive=waive.toml") for n in (1, 2)]
    assert all("not needed" not in text for _, text in guests)
    assert list(unneeded([records.waivers for records, _ in guests])) == [
        "waiver not needed: test_it.py::test_gone: there is no such case",
    ]
    (alone, text) = run("1/1", (), "--waive=waive.toml")
    assert "waiver not needed: test_it.py::test_gone: there is no such case\n" in text
    assert list(unneeded([alone.waivers])) == list(
        unneeded([records.waivers for records, _ in guests])
    )


def test_a_waiver_needed_in_no_guest_is_not(run: Run) -> None:
    guests = [run(f"{n}/2", (), "--waive=waive.toml", "-k", "not 3")[0] for n in (1, 2)]
    assert list(unneeded([records.waivers for records in guests])) == [
        "waiver not needed: test_it.py::test_?: passed",
        "waiver not needed: test_it.py::test_gone: there is no such case",
    ]


def test_pytests_words_come_in_three_parts(run: Run, tmp_path: Path) -> None:
    _, text = run("2/2", (), "-v")
    shown: list[str] = []
    transcript = Transcript(tmp_path / "log", shown.append, 1)
    transcript.take(text)
    transcript.close()
    assert "collected 7 items" in "".join(shown)
    assert "PASSED" not in "".join(shown)
    assert "assert 3 != 3" not in transcript.left  # the other guest's
    # Of one guest, too, what comes after the cases can be told apart.
    assert run("1/1")[1].count(MARK) == 2
