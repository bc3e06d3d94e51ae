# SPDX-License-Identifier: GPL-2.0-only
"""Programs of system calls, which run without Python."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import cli, program
from bench.calls import Calls
from bench.program import Program
from tests.utils.tasks.process import in_child


@pytest.fixture(autouse=True)
def _needs() -> Iterator[None]:
    if platform.machine() != "x86_64":
        pytest.skip("the machine code is for x86-64")
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    yield
    with pytest.raises(ChildProcessError):  # each child has been waited for
        os.waitpid(-1, os.WNOHANG)


def test_results_are_handed_on(tmp_path: Path) -> None:
    """A descriptor that one call returns is an argument of the next ones, in the caller and in a
    child; the child's directory is its own."""

    def enter(k: Calls) -> None:
        first = k.open(b"/", os.O_RDONLY)
        second = k.open(os.fsencode(tmp_path), os.O_RDONLY | os.O_DIRECTORY)
        k.fchdir(second)
        k.close(first)
        k.close(second)

    def run() -> tuple[str, str, bool]:
        os.chdir("/")
        made, before = Program(enter), os.listdir("/proc/self/fd")
        made.run_in_child()
        after_child = os.getcwd()
        made.run()
        return after_child, os.getcwd(), os.listdir("/proc/self/fd") == before

    assert in_child(run) == ("/", str(tmp_path), True)


def test_the_first_failure_ends_it(tmp_path: Path) -> None:
    """It is raised with the name of its call; what comes behind it does not happen, and the next
    time starts from the beginning."""
    missing = os.fsencode(tmp_path / "missing")

    def run(k: Calls) -> None:
        k.chdir(os.fsencode(tmp_path))
        k.chdir(missing)
        k.chdir(b"/")

    made = Program(run)
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="chdir: No such file"):
            made.run_in_child()
    os.mkdir(missing)
    made.run_in_child()


def test_negative_and_missing_arguments_arrive() -> None:
    """AT_FDCWD is one, and NULL another."""
    with pytest.raises(OSError, match="fchdir: Bad file descriptor"):
        Program(lambda k: k.fchdir(-100)).run()
    with pytest.raises(OSError, match="chdir: Bad address"):
        Program(lambda k: k.chdir(None)).run()


def test_another_processor_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is measured, with what can be measured there."""
    assert program.missing() == ""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert cli.main(["--quick"]) == 3
    assert capsys.readouterr().err == (
        "bench: --modes process,forker,reader,reader-busy: the machine code is for 64-bit x86, not"
        " aarch64\n"
        "hint: --modes calls,fork,handle,bystander\n"
    )
