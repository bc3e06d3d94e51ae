# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's command line: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import cli
from bench.measure import Progress
from bench.plan import Plan
from bench.results import Results
from bench.workers import MethodFailed, WorkersFailed
from tests.harness.helpers.bench_results import results


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Plan]:
    """The plans that would have been measured; the results are made up."""
    plans: list[Plan] = []

    def measure(plan: Plan, progress: Progress) -> Results:
        plans.append(plan)
        progress(0.5, "round 1 of 2")
        return results(plan)

    monkeypatch.setattr(cli, "measure", measure)
    monkeypatch.setattr("bench.machine.mount_max", lambda: 100_000)
    return plans


def test_defaults(asked: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    """Without a word everything is measured; no progress is shown where there is no terminal."""
    assert cli.main([]) == 0
    assert asked == [Plan()]
    printed = capsys.readouterr()
    assert printed.out.startswith("Linux 7.9.1")
    assert printed.err == ""


def test_options(asked: list[Plan], capsys: pytest.CaptureFixture[str]) -> None:
    """Each axis takes a list, in which nothing counts twice; --quick gives other defaults."""
    words = "--quick --tables 5,1,5 --creators 3 --depths 0 --siblings 2,0 --tasks 9"
    more = "--modes calls,process --methods a,c --seconds 2 --rounds 4 --shared --progress"
    assert cli.main([*words.split(), *more.split()]) == 0
    assert asked == [
        Plan((5, 1), (3,), (0,), (2, 0), (9,), ("calls", "process"), ("a", "c"), 2.0, 4, True)
    ]
    assert "50% round 1 of 2" in capsys.readouterr().err
    assert cli.main(["--quick"]) == 0
    assert asked[1].seconds < Plan().seconds
    assert max(asked[1].tables) < max(Plan().tables)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--tables 0", "--tables: '0' is not a whole number from 1 on"),
        ("--tables 30,many", "--tables: 'many' is not a whole number from 1 on"),
        ("--depths -1", "--depths: '-1' is not a whole number from 0 on"),
        ("--seconds 0", "above 0"),
        ("--seconds nan", "above 0"),
        ("--rounds 0", "not a whole number from 1 on"),
        ("--modes run", "'run' is none of calls, process, fork, handle, bystander, forker"),
        ("--methods a,z", "'z' is none of a, b, c, d, e, f"),
        ("more", "more: nothing takes this here"),
        ("--jso x", "did you mean --json?"),
        ("--json=", "--json: empty"),
    ],
)
def test_usage(words: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is named, and gives status 2."""
    words = words.replace(" -1", "=-1")
    with pytest.raises(SystemExit) as ended:
        cli.main(words.split())
    assert ended.value.code == 2
    printed = capsys.readouterr().err
    assert why in printed
    first, second = printed.splitlines()
    assert first.startswith("bench: ")
    assert second.startswith("hint: ")


def test_help_names_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    """One page to work from."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "c  open_tree(OPEN_TREE_NAMESPACE) (3 calls)" in text
    assert "130  interrupted" in text


def test_files(asked: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json writes what --from reads; nothing is measured for that."""
    file = tmp_path / "results.json"
    assert cli.main(["--quick", "--json", str(file)]) == 0
    text = capsys.readouterr().out
    assert cli.main(["--from", str(file)]) == 0
    assert capsys.readouterr().out == text
    assert len(asked) == 1


def test_file_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said in a line that names it."""
    (tmp_path / "other.json").write_text("{}")
    for name, why in (("other.json", "no results of this"), ("missing.json", "No such file")):
        assert cli.main(["--from", str(tmp_path / name)]) == 3
        error = capsys.readouterr().err
        assert (name in error, why in error, error.count("\n")) == (True, True, 1)


def test_a_file_that_cannot_be_written_loses_nothing(
    asked: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named before anything is measured; and what fails only then, after the report."""
    for option in ("--json", "--plot"):
        assert cli.main([option, str(tmp_path)]) == 3
        first, second = capsys.readouterr().err.splitlines()
        assert first == f"bench: {tmp_path}: cannot write: it is a folder"
        assert second == "hint: name a file in it"
    assert asked == []
    assert cli.main(["--json", "/dev/full"]) == 3
    printed = capsys.readouterr()
    assert printed.out.startswith("Linux 7.9.1")
    assert "No space left on device" in printed.err


def test_a_plot_of_nothing_is_told_beforehand(
    asked: list[Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of one size of table there is no curve."""
    monkeypatch.setattr(cli, "require", lambda _: None)
    for words in (["--tables", "30", "--tasks", "0"], ["--modes", "bystander"]):
        assert cli.main(["--plot", str(tmp_path / "x.svg"), *words]) == 3
        assert ": nothing to plot\nhint: " in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("option", ["--json", "--plot"])
def test_folder_that_is_not_there(
    option: str, asked: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said before anything is measured."""
    assert cli.main([option, str(tmp_path / "missing" / "x.svg")]) == 3
    assert "cannot write" in capsys.readouterr().err
    assert asked == []


def test_plot_without_matplotlib(
    asked: list[Plan],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is said before anything is measured."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["--plot", str(tmp_path / "x.svg")]) == 3
    assert "pip install matplotlib" in capsys.readouterr().err
    assert asked == []


def test_more_mounts_than_allowed(
    asked: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The limit is named before anything is mounted; where it cannot be read, it is tried."""
    monkeypatch.setattr("bench.machine.mount_max", lambda: 1000)
    assert cli.main(["--tables", "999"]) == 3
    assert "1999 mounts are too many here: sysctl fs.mount-max allows 1000" in (
        capsys.readouterr().err
    )
    assert cli.main(["--tables", "998", "--siblings", "0", "--depths", "0"]) == 0
    monkeypatch.setattr("bench.machine.mount_max", lambda: 0)
    assert cli.main(["--tables", "999"]) == 0
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (MethodFailed("(c) setns: Operation not permitted"), 1, "(c) setns"),
        (WorkersFailed("unshare: Operation not permitted"), 3, "unshare"),
        (OSError(28, "No space left on device", "/x"), 3, "/x: No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_ends(
    error: BaseException,
    status: int,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each way to fail has its status and a line, and no trace of the program."""

    def measure(_plan: Plan, _progress: Progress) -> Results:
        raise error

    monkeypatch.setattr(cli, "measure", measure)
    assert cli.main(["--tables", "1"]) == status
    printed = capsys.readouterr().err
    assert printed.startswith("bench: ")
    assert text in printed
    assert printed.count("\n") == 1
