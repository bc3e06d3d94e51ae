# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm faults` as a whole, with a kernel that is a script: what is measured is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.harness.helpers.faulty import fault, played_kernel
from vm.commands import faults as verb
from vm.commands.faults import Request
from vm.errors import Exit, Interrupted, Problem
from vm.faults import catalogue
from vm.faults.catalogue import Fault, Operators

Start = Callable[..., Exit]
CODE = """#include <linux/fs.h>
static int f(void)
{
	return f1() + f2() + f3();
}
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def known() -> list[Fault]:
    """The catalogue."""
    return [fault(1), fault(2), fault(3)]


@pytest.fixture
def start(tmp_path: Path, log: Path, known: list[Fault], monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start the verb on a source, with these fields of the request."""
    source = tmp_path / "linux"
    (source / "fs").mkdir(parents=True)
    (source / "fs/namespace.c").write_text(CODE)
    for name in ("Kconfig", "Kbuild", "Makefile"):
        (source / name).touch()
    kernel = played_kernel(tmp_path, log, monkeypatch)

    class Workshop:
        """Builds nothing."""

        objects = source

        def __init__(self, *_: Any) -> None:
            pass

        @contextmanager
        def held(self) -> Iterator[None]:
            yield

        def kernel(self, planted: Any) -> Any:
            return kernel

    monkeypatch.setattr(verb, "Workshop", Workshop)
    monkeypatch.setattr(catalogue, "load", lambda: known)
    monkeypatch.setattr(catalogue, "operators", Operators)
    return lambda **fields: verb.faults(
        Request(**{"kernel": str(source), "jobs": 1, "output": tmp_path / "out", **fields})
    )


def booted(log: Path) -> list[str]:
    """The numbers that were booted."""
    return [line.split()[0] for line in log.read_text().splitlines()]


def test_a_fault_that_nothing_notices_fails_the_run_once_no_reason_is_known(
    start: Start, known: list[Fault], log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start() == Exit.FAILED
    assert "unnoticed, and no reason is known: f3" in capsys.readouterr().out
    assert booted(log) == ["0", "1", "2", "2", "3", "3"]
    known[2] = replace(known[2], silent="out of memory")
    assert start() == Exit.OK
    assert len(booted(log)) == 6  # a reason changes no result


def test_a_start_that_is_interrupted_loses_nothing(
    start: Start, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = verb._Run._record

    def interrupted(self: Any, trial: Any, result: Any) -> None:
        record(self, trial, result)
        raise Interrupted("SIGINT")

    with monkeypatch.context() as patch:
        patch.setattr(verb._Run, "_record", interrupted)
        with pytest.raises(Interrupted):
            start()
    assert booted(log) == ["0", "1"]
    start()
    assert booted(log) == ["0", "1", "2", "2", "3", "3"]


def test_results_are_for_people_and_for_programs(start: Start, tmp_path: Path) -> None:
    start(page=tmp_path / "page.md")
    text = (tmp_path / "page.md").read_text()
    assert "- written by hand: 2 of 3 (66.7%) noticed" in text
    assert str(tmp_path) not in text
    assert (tmp_path / "out/evidence.md").read_text() == text
    assert (tmp_path / "out/evidence.json").exists()


def test_a_page_needs_results(start: Start) -> None:
    with pytest.raises(Problem, match="nothing was measured"):
        start(report=True)


def test_the_catalogue_is_listed(
    start: Start, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(listing=True, patterns=("f2",)) == Exit.OK
    assert capsys.readouterr().out == "f2  locks  s\n"
    assert not log.exists()
