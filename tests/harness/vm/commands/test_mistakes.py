# SPDX-License-Identifier: GPL-2.0-only
"""A user's mistake is a line and a hint, tests nothing in place of what was meant, and ends a
bisection."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.helpers import filters
from tests.harness.helpers.launcher import Launcher, make_launcher
from vm import paths
from vm.commands import main, shell
from vm.commands.arguments import parse
from vm.errors import Exit, for_bisect


class Said:
    """Runs command lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, list[str]]:
        status = main.main(list(words))
        printed = self._capsys.readouterr()
        assert printed.out == ""
        return status, printed.err.splitlines()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Said:
    """The status and the lines on standard error of a command line that must come to nothing."""
    monkeypatch.setattr(main, "choose", lambda *_: pytest.fail("a kernel was chosen"))
    return Said(capsys)


@pytest.mark.parametrize(
    ("words", "line", "hint"),
    [
        (["--memory", "much"], "--memory: 'much' is not a size", "--help"),
        (["--memory", "0"], "--memory: '0' is not a size", "--help"),
        (["--memory", "1.5"], "--memory: '1.5' is not a size", "--help"),
        (["--guests", "x"], "--guests: 'x' is not a whole number from 1 on", "--help"),
        (["--cpus", "0"], "--cpus: '0' is not a whole number from 1 on", "--help"),
        (["--boot-limit", "nan"], "--boot-limit: 'nan' is not a time above 0", "--help"),
        (["--run-limit", "inf"], "--run-limit: 'inf' is not a time above 0", "--help"),
        (["--kernel", ""], "--kernel: empty", "shell variable"),
        (["--kernel="], "--kernel: empty", "shell variable"),
        (["--output", ""], "--output: empty", "shell variable"),
        (["--kernle", "."], "--kernle .: nothing takes this here", "did you mean --kernel?"),
        (["-k", "covered"], "-k covered: nothing takes this", "vm run -- -k covered"),
        (["vm"], "vm: nothing takes this", "--kernel vm"),
        (["debian:sid"], "debian:sid: nothing takes this", "--kernel debian:sid"),
        (["--dry"], "--dry: nothing takes this", "did you mean --dry-run?"),
    ],
)
def test_a_mistake_in_an_option_is_a_line_and_a_hint(
    said: Said, words: list[str], line: str, hint: str
) -> None:
    status, lines = said("run", *words)
    assert status == Exit.USAGE
    first, second = lines
    assert first.startswith(f"vm: {line}")
    assert second.startswith("hint: ")
    assert hint in second


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["check", "lint"], "vm check -- lint"),
        (["bench", "--quick"], "vm bench -- --quick"),
        (["bench", "--", "--json", "x"], "bench.json of the folder for results"),
        (["bench", "--", "--from=x"], "bench.json of the folder for results"),
        (["shell", "--kernel", ""], "shell variable"),
        (["kernels", "trixie", "--prune"], "one of the two"),
        (["faults", "--", "-k", "x"], "name faults, families or kinds"),
        (["faults", "--kernel", "/nonexistent"], "give an image, a source tree"),
        (["kernels", "--prune", "trixie"], "--help"),
        (["kernels", "--prune", "nan"], "--help"),
        (["nonsense"], "--help"),
    ],
)
def test_so_it_is_with_each_verb(said: Said, words: list[str], hint: str) -> None:
    status, (first, second) = said(*words)
    assert (status, first[:4], second[:6]) == (Exit.USAGE, "vm: ", "hint: ")
    assert hint in second


@pytest.mark.parametrize(
    ("text", "value"), [("1G", 1024), ("512m", 512), ("1.5GiB", 1536), ("700", 700)]
)
def test_memory_is_written_as_qemu_has_it(text: str, value: int) -> None:
    assert parse(["run", "--memory", text]).memory == value


@pytest.mark.parametrize(
    ("text", "value"), [("2m", 120), ("90s", 90), ("1.5", 1.5), ("1h", 3600), ("0.5", 0.5)]
)
def test_limits_are_written_as_systemd_has_them(text: str, value: float) -> None:
    assert parse(["run", "--boot-limit", text]).boot_limit == value


@pytest.mark.parametrize("name", ["file", "file/below", "/proc/no-such/folder"])
def test_a_folder_for_results_that_cannot_be_one_is_named_before_anything_starts(
    said: Said, tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    where = str(tmp_path / name)
    for verb in ("run", "bench"):
        status, (first, second) = said(verb, "--output", where)
        assert status == Exit.USAGE
        assert first.startswith(f"vm: --output {where}: ")
        assert second.startswith("hint: ")


# --- bisection ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--build", "--kernle", "."], Exit.NO_BISECTION),
        (["--bui", "--kernel", "."], Exit.NO_BISECTION),
        (["--build", "--kernel", "/no/such/tree"], Exit.NO_BISECTION),
        (["--build", "--waive", "/no/such/file"], Exit.NO_BISECTION),
        (["--boot-limit", "0"], Exit.USAGE),
    ],
)
def test_a_mistake_ends_a_bisection(
    capsys: pytest.CaptureFixture[str], words: list[str], status: Exit
) -> None:
    assert main.main(["run", *words]) == status
    assert "Traceback" not in capsys.readouterr().err


def test_what_is_the_same_at_each_commit_is_no_verdict_on_one() -> None:
    assert {status: for_bisect(status) for status in Exit} == {
        Exit.OK: 0,
        Exit.FAILED: 1,
        Exit.USAGE: 128,
        Exit.HOST: 128,
        Exit.NOTHING: 125,
        Exit.RUN_LIMIT: 1,
        Exit.NOT_BOOTED: 125,
        Exit.UNCOVERED: 5,
        Exit.NO_BISECTION: 125,
        Exit.INTERRUPTED: 130,
    }


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_itself_ends_the_bisection(tmp_path: Path) -> None:
    def git(*words: str) -> subprocess.CompletedProcess[str]:
        settings = ("-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false")
        return subprocess.run(
            ["git", *settings, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(paths.ROOT), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
        )

    git("init")
    for number in range(8):
        git("commit", "--allow-empty", "-m", str(number))
    git("bisect", "start", "HEAD", "HEAD~7")
    done = git("bisect", "run", sys.executable, "-m", "vm", "run", "--build", "--kernle", ".")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert text.count("--kernle .: nothing takes this here") == 1  # and not for each commit


# --- the host's -----------------------------------------------------------------------------------


@pytest.fixture
def launcher(tmp_path: Path) -> Launcher:
    (tmp_path / "cache").mkdir()
    return make_launcher(tmp_path, tmp_path / "cache")


def test_no_more_processes_is_no_fault_of_the_launchers(launcher: Launcher) -> None:
    def refuse() -> None:
        for call in ("clone", "vfork"):
            if call in filters.CALLS:
                filters.install("EAGAIN", call)

    done = subprocess.run(
        launcher.command("--output", str(launcher.folder / "out")),
        cwd=paths.ROOT,
        env={**launcher.environment, "PLAY": "pass"},
        preexec_fn=refuse,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == Exit.HOST
    assert "Resource temporarily unavailable" in done.stderr


def test_a_fault_of_the_launchers_own_is_told_with_its_trace_and_what_it_runs_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(main, "choose", break_down)
    monkeypatch.setattr(shell, "asked_for", lambda: "true")
    assert main.main(["shell"]) == Exit.HOST
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" in printed.err
    first, second = printed.err.splitlines()[-2:]
    assert first.startswith("vm: Python ")
    assert second == "hint: please report it with the lines above"


def test_a_file_that_cannot_be_read_is_named_and_its_trace_shown_when_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(116, "Stale file handle", "/nfs/linux")

    monkeypatch.setattr(main, "launch", refuse)
    assert main.main(["run"]) == Exit.HOST
    assert capsys.readouterr().err == "vm: Stale file handle: /nfs/linux\n"
    assert main.main(["run", "-v"]) == Exit.HOST
    assert "Traceback" in capsys.readouterr().err
