# SPDX-License-Identifier: GPL-2.0-only
"""Several kernels in one run: the table, the JSON, the exit status, how many at a time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.harness.helpers.images import bzimage, elf
from tests.harness.helpers.launcher import Launcher, complaints
from tests.harness.helpers.story import table
from tests.utils.report.case import Case
from vm import paths
from vm.errors import Exit
from vm.report import matrix
from vm.report.conclude import Result
from vm.report.matrix import Column
from vm.report.summary import Summary
from vm.report.verdict import Verdict


def command(launcher: Launcher, kernels: Sequence[str], *words: str) -> list[str]:
    """The launcher's command line for kernels of these names, made when they are missing."""
    line = [sys.executable, "-m", "vm", "run", "--output", str(launcher.folder / "out")]
    for name in kernels:
        path = launcher.folder / name
        if name != "none":
            path.write_bytes(bzimage())
        line += ["--kernel", str(path)]
    return [*line, *words]


def run(launcher: Launcher, plays: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """Run on a kernel for each of *plays*."""
    launcher.environment |= {f"PLAY_{name}": play for name, play in plays.items()}
    return launcher.run("", command=command(launcher, list(plays), *words))


def whole(launcher: Launcher) -> dict[str, Any]:
    """The JSON of the whole."""
    found: dict[str, Any] = json.loads((launcher.folder / "out/matrix.json").read_text())
    return found


def test_the_table_has_the_cases_that_differ(launcher: Launcher) -> None:
    done = run(launcher, {"good": "pass", "bad": "fail", "silent": "refuses", "none": ""})
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    text = done.stdout
    assert f"  1  {launcher.folder / 'good'}: 7.9.1, qemu/tcg: 3 passed\n" in text
    assert f"  2  {launcher.folder / 'bad'}: 7.9.1, qemu/tcg: 1 failed, 1 passed\n" in text
    assert f"  3  {launcher.folder / 'silent'}: qemu/tcg: not booted: " in text
    for name in ("good", "bad", "silent"):  # as each is done, before the table
        assert re.search(rf"^Linux \S+ \({launcher.folder / name}\), qemu/tcg: ", text, re.M)
    assert "\ncases that differ, 2 of 3:\n" in text
    assert "\nrules that differ, 1 of 1 (. kept, F broken, - unknown):\n" in text
    assert "fixes that differ" not in text  # where no case shows one, it does not differ
    assert text.index("  . F - -  r1\n") < text.index("\ncases that differ")
    rows = text[text.rindex("  1 2 3 4\n") :].splitlines()[1:-1]
    assert rows == ["  . F - -  t.py::two", "  . - - -  t.py::three"]
    first, second = complaints(done.stderr).splitlines()
    assert first == f"vm: {launcher.folder / 'none'}: No such file or directory"
    assert second.startswith("hint: give a path; a packaged kernel as debian")
    assert list(launcher.temporary.iterdir()) == []


def test_a_guest_that_cannot_be_started_is_a_problem_of_its_kernel_alone(
    launcher: Launcher,
) -> None:
    """A User-Mode Linux that the host cannot execute, and a kernel that QEMU takes."""
    uml = launcher.folder / "linux"
    uml.write_bytes(elf(0x60000000, banner=b"Linux version 7.9.2 ("))
    launcher.environment["PLAY_good"] = "pass"
    done = launcher.run("", command=[*command(launcher, ["good"]), "--kernel", str(uml)])
    assert done.returncode == Exit.HOST, done.stdout + done.stderr
    assert [kernel["status"] for kernel in whole(launcher)["kernels"]] == [Exit.OK, Exit.HOST]
    assert complaints(done.stderr) == f"vm: cannot start {uml}: Permission denied\n"


def test_each_kernel_has_a_folder_and_the_whole_a_json(launcher: Launcher) -> None:
    run(launcher, {"good": "pass", "bad": "fail", "none": ""})
    found = whole(launcher)
    assert found["status"] == Exit.FAILED
    assert [kernel["status"] for kernel in found["kernels"]] == [Exit.OK, Exit.FAILED, Exit.HOST]
    assert [kernel["compared"] for kernel in found["kernels"]] == [True, True, False]
    for kernel in found["kernels"][:2]:
        summary = json.loads(
            (launcher.folder / "out" / kernel["folder"] / "summary.json").read_text()
        )
        assert summary["verdict"] == kernel["verdict"]
    assert found["cases"] == [
        {"id": "t.py::one", "outcomes": ["passed", "passed", ""]},
        {"id": "t.py::two", "outcomes": ["passed", "failed", ""]},
        {"id": "t.py::three", "outcomes": ["passed", "", ""]},
    ]


KINDS: dict[str, Any] = {"text": str, "number": (int, float), "truth": bool, "list": list}


def test_every_key_of_the_json_is_documented_and_there(launcher: Launcher) -> None:
    run(launcher, {"good": "pass", "bad": "fail"})
    found = whole(launcher)
    flat: dict[str, object] = {name: found[name] for name in ("status", "suite")}
    for name in ("kernels", "fixes", "rules", "cases"):
        flat |= {f"{name}[].{key}": value for key, value in found[name][0].items()}
    documented = {row["key"].strip("`"): row["type"] for row in table("key")}
    assert list(documented) == list(flat)
    for name, kind in documented.items():
        assert isinstance(flat[name], KINDS[kind]), name


def test_all_cases_are_shown_on_demand(launcher: Launcher) -> None:
    done = run(launcher, {"good": "pass", "bad": "fail"}, "-v")
    assert "  . .  t.py::one\n" in done.stdout
    assert done.stdout.count("phases: host set-up ") == 2


def test_no_more_kernels_at_a_time_than_asked_for(launcher: Launcher) -> None:
    names = ("first", "second", "third")
    words = command(launcher, names, "--jobs", "1")
    done = launcher.run("pass", command=["sh", "-c", 'exec "$@" 2>&1', "sh", *words])
    # A line when one begins and one when it has ended.
    assert [line.split()[0] for line in done.stdout.splitlines() if "7.9.1" in line][:6] == [
        "booting",
        "Linux",
    ] * 3


def test_kernels_run_side_by_side(launcher: Launcher) -> None:
    """Each waits for the other: one after the other they would come to no end."""
    os.mkfifo(launcher.folder / "meeting")
    launcher.environment["MEETING"] = str(launcher.folder / "meeting")
    done = run(launcher, {"one": "reads", "two": "writes"}, "--jobs", "2", "--run-limit", "60")
    assert done.returncode == Exit.OK, done.stdout


def test_an_interrupt_ends_all_of_them_and_keeps_what_there_is(launcher: Launcher) -> None:
    os.mkfifo(launcher.folder / "started")
    launcher.environment |= {"PLAY_one": "silent hang", "PLAY_two": "pass", "PLAY": ""}
    process = subprocess.Popen(
        command(launcher, ["one", "two"], "--jobs", "1"),
        cwd=paths.ROOT,
        env=launcher.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    guest = int((launcher.folder / "started").read_text())  # waits for the script's writing
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert complaints(errors) == "vm: interrupted (SIGINT)\n"
    with pytest.raises(ProcessLookupError):
        os.kill(guest, 0)
    assert [kernel["status"] for kernel in whole(launcher)["kernels"]] == [Exit.INTERRUPTED] * 2


def test_a_dry_run_prints_a_command_for_each_guest_of_each_kernel(launcher: Launcher) -> None:
    done = run(launcher, {"one": "", "two": ""}, "--dry-run", "--guests", "2")
    lines = [line for line in done.stdout.splitlines() if "qemu-system" in line]
    assert [line.partition("vm.share=")[2][:3] for line in lines] == ["1/2", "2/2"] * 2
    assert len(set(lines)) == 4
    assert len(list((launcher.folder / "out").glob("*/initramfs.cpio"))) == 2


def test_the_same_kernel_twice_is_a_usage_error(launcher: Launcher) -> None:
    done = launcher.run("pass", command=command(launcher, ["one", "one"]))
    assert done.returncode == Exit.USAGE
    assert done.stderr.startswith("vm: --kernel: the same kernel twice\nhint: --repeat 2 ")


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((0, 0), 0),
        ((4, 0), 0),  # one that lacks the feature takes nothing from the other
        ((4, 4), 4),
        ((0, 3), 3),
        ((3, 125), 125),
        ((125, 124), 124),
        ((124, 1), 1),
        ((1, 130), 130),
    ],
)
def test_the_worst_of_the_statuses_is_the_wholes(statuses: tuple[int, int], expected: int) -> None:
    columns = [Column("k", None, "", Exit(status)) for status in statuses]
    for some in (columns, columns[::-1]):
        assert matrix.status(some) == expected


def column(name: str, status: Exit, **outcomes: str) -> Column:
    cases = [Case(case, outcome) for case, outcome in outcomes.items()]
    summary = Summary(environment={"release": "7"}, backend="b", seconds=1)
    return Column(name, Result(Verdict(status, "text", cases), summary, Path(name)))


def test_a_kernel_on_which_nothing_was_tested_makes_no_difference() -> None:
    columns = [
        column("good", Exit.OK, a="passed", b="passed"),
        column("old", Exit.NOTHING, a="skipped", b="skipped"),
    ]
    assert list(matrix.table(columns, every=False))[-1] == "all 2 cases are alike on them"
    rows = list(matrix.table(columns, every=True))[-2:]
    assert rows == ["  . s  a", "  . s  b"]


def test_cases_stand_in_the_order_of_the_longest_list() -> None:
    columns = [
        column("cut", Exit.FAILED, b="passed"),
        column("whole", Exit.OK, a="passed", b="passed", c="xfailed"),
    ]
    assert list(matrix.table(columns, every=False))[-2:] == ["  - .  a", "  - x  c"]


def test_folders_get_names_of_their_own() -> None:
    names = ["debian:sid/user-mode-linux", "/a/linux", "a/linux", "", "host"]
    assert len(matrix.folder_names(["/x" * 99])[0]) < 61
    assert matrix.folder_names(names) == [
        "debian_sid_user-mode-linux",
        "a_linux",
        "a_linux-2",
        "kernel",
        "host",
    ]
