# SPDX-License-Identifier: GPL-2.0-only
"""What a run shows while it goes on, what it keeps of guests' words, where its time went."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.stream import Stream, records_of
from vm import terminal as screen_module
from vm.errors import Interrupted
from vm.guest.protocol import MARK
from vm.report.summary import phases
from vm.run.guest import Ending, Stop
from vm.run.log import Log
from vm.run.transcript import Transcript
from vm.terminal import Progress, Screen

# --- a guest's words, kept ------------------------------------------------------------------------


def test_a_log_keeps_all_that_fits(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", head=10, tail=4)
    for piece in (b"0123", b"456", b"789ab"):
        log.write(piece)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"0123456789ab"
    assert log.size == 12


def test_a_log_keeps_the_beginning_and_the_end_of_a_flood(tmp_path: Path) -> None:
    log = Log(tmp_path / "log", head=4, tail=3)
    for number in range(100):
        log.write(b"%02d" % number)
    log.close()
    assert (tmp_path / "log").read_bytes() == b"0001\n[... 193 bytes left out ...]\n899"
    assert log.lines() == ["0001", "[... 193 bytes left out ...]", "899"]


def test_a_full_disk_costs_a_log_its_file_and_not_its_end(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to("/dev/full")
    log = Log(tmp_path / "log", tail=20)
    log.write(b"x" * 100)
    log.write(b"\nKernel panic\n")
    log.close()
    assert log.error is not None
    assert (log.error.errno, log.error.filename) == (errno.ENOSPC, str(tmp_path / "log"))
    assert log.lines() == ["xxxxxx", "Kernel panic"]


@pytest.mark.parametrize(
    ("parts", "shown"), [(0, ""), (1, "head\n"), (2, "head\n..F\n"), (3, "head\n..F\nend\n")]
)
def test_of_pytests_words_as_many_parts_are_shown_as_asked_for(
    tmp_path: Path, parts: int, shown: str
) -> None:
    seen: list[str] = []
    transcript = Transcript(tmp_path / "log", seen.append, parts)
    for piece in ("he", f"ad\n{MARK}..", f"F\n{MARK}e", "nd\n"):
        transcript.take(piece)
    transcript.close()
    assert "".join(seen) == shown
    assert transcript.left == ("" if parts == 3 else "end")
    assert (tmp_path / "log").read_text() == "head\n..F\nend\n"


@pytest.mark.parametrize(
    "last",
    [
        "=== 1 failed, 2 passed in 0.12s ===",
        "2 passed, 1 warning in 61.00s (0:01:01)",
        "\x1b[32m\x1b[1m2 passed\x1b[0m\x1b[32m in 0.01s\x1b[0m",
        "no tests ran in 0.00s",
    ],
)
def test_pytests_last_line_is_not_repeated(tmp_path: Path, last: str) -> None:
    transcript = Transcript(tmp_path / "log", lambda _: None, 1)
    transcript.take(f"{MARK}{MARK}\nsaid in 1s\n{last}\n")
    assert transcript.left == "said in 1s"
    transcript.close()


# --- the screen -----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal to write to."""

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard output becomes one, 20 characters wide; to be called in the test, as pytest sets
    it anew for each phase."""
    found = Terminal()
    monkeypatch.setattr(sys, "stdout", found)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    return found


def test_on_a_terminal_lines_come_above_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    screen = Screen()
    screen.status("1/2")
    screen.text("one\ntw")
    screen.status("2/2 and more than there is room for")
    screen.text("o\n")
    screen.text("rest")
    screen.close()
    assert terminal.getvalue() == (
        "\r\x1b[K1/2"
        "\r\x1b[Kone\n1/2"
        "\r\x1b[K2/2 and more than t"
        "\r\x1b[Ktwo\n2/2 and more than t"
        "\r\x1b[Krest"
    )


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_cannot_write_over_is_a_log(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    on_a_terminal(monkeypatch)
    assert Screen().live
    monkeypatch.setenv("TERM", name)
    assert not Screen().live


def test_a_log_has_a_line_for_every_tenth(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    screen.status("not seen")
    for done in range(31):
        screen.milestone(Progress(done, 30 if done > 4 else 0, done // 20))
    screen.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["5/30 cases, 0 failed", "6/30 cases, 0 failed"]
    assert lines[-1] == "30/30 cases, 1 failed"
    assert len(lines) == 10


@pytest.mark.parametrize("number", [errno.EPIPE, errno.EIO])
def test_a_screen_that_is_gone_interrupts_the_run_once(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            raise OSError(number, os.strerror(number))

    silenced: list[int] = []
    monkeypatch.setattr(sys, "stdout", Gone())
    monkeypatch.setattr(screen_module, "silence", silenced.append)
    screen = Screen()
    with pytest.raises(Interrupted):
        screen.line("one")
    screen.close()
    screen.line("two")  # what there is to say at the end goes nowhere
    assert set(silenced) == {1}


# --- phases ---------------------------------------------------------------------------------------


def ending(end: float, **times: float) -> Ending:
    return Ending(Stop.EXITED, 0, "", 1, {"start": 12.0, **times, "end": end})


def test_the_phases_add_up() -> None:
    records = records_of(Stream().begin().end(0).data)
    # The guest said hello 2 seconds after its kernel's start.
    records.first = {"hello": 16.0, "ready": 17.0, "collected": 17.5, "end": 20.0}
    records.guest_first["hello"] = 2.0
    records.started = {"kernel": 1.25, "python": 1.5}
    found = phases(10.0, records, ending(20.25))
    assert found == {
        "host set-up": 2.0,
        "firmware": 2.0,
        "kernel": 1.25,
        "Python": 0.25,
        "init": 0.5,
        "pytest": 1.0,
        "collection": 0.5,
        "cases": 2.5,
        "power-off": 0.25,
    }
    assert sum(found.values()) == 10.25


def test_time_that_was_lost_belongs_to_the_phase_it_was_lost_in() -> None:
    records = records_of(Stream().begin().data)
    records.first = {"hello": 13.0, "ready": 14.0, "collected": 15.0}
    records.guest_first["hello"] = 1.0
    records.started = {"python": 0.5}  # a kernel's log without time stamps
    assert list(phases(10.0, records, ending(19.0)).items())[-5:] == [
        ("kernel and Python", 0.5),
        ("init", 0.5),
        ("pytest", 1.0),
        ("collection", 1.0),
        ("cases", 4.0),
    ]
    silent = records_of(b"")
    assert phases(10.0, silent, ending(14.0)) == {"host set-up": 2.0, "firmware": 2.0}
    assert phases(10.0, silent, ending(14.0, console=13.0))["kernel"] == 1.0
