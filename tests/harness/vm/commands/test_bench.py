# SPDX-License-Identifier: GPL-2.0-only
"""``python3 -m vm bench``, with a QEMU that is a script: what is started, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.launcher import Launcher, make_launcher
from vm.commands.main import main
from vm.errors import Exit

#: Plays a benchmark.
BENCH = r"""
stream.add("hello", "init", environment={{"release": "7.9.1"}})
said = " ".join([order["program"], order["user"], *order["arguments"]])
stream.add("text", "init", text=f"asked for: {{said}}\n")
there = sorted(n for n in members if n.startswith("vm/project/bench/") and n.endswith("/cli.py"))
stream.add("text", "init", text=f"has {{there}}\n")
if mode == "panic":
    print("[    2.0] Kernel panic - not syncing: crash", flush=True)
elif mode == "complains":
    print("[    2.0] WARNING: CPU: 0 PID: 1 at fs/namespace.c:1 x", flush=True)
if mode != "panic":
    if mode != "fails":
        stream.add("measured", results='{{"schema": 1}}')
    stream.end(1 if mode == "fails" else 0)
with open(report, "wb") as file:
    file.write(stream.data)
"""
#: Plays a benchmark of made up numbers, on a kernel that is slow now and then, or always.
COMPARED = r"""
from bench.cli import asked_for, parsed
from tests.harness.helpers.bench_results import results

found = results(asked_for(parsed(order["arguments"])))
boots = Path({folder!r}, "boots")
number = len(boots.read_text()) if boots.exists() else 0
boots.write_text("x" * (number + 1))
times = 1.2 if mode == "slow" else 1.3 if mode == "unsteady" and number % 2 else 1
for rates in found.rates.values():
    rates["c"] = [rate / times for rate in rates["c"]]
stream.add("hello", "init", environment={{"release": "7.9.1"}})
stream.add("text", "init", text="asked for: " + " ".join(order["arguments"]))
stream.add("measured", results=found.dump())
stream.end(1 if mode == "fails" else 0)
with open(report, "wb") as file:
    file.write(stream.data)
"""
#: One method at one point.
PLAN = (
    *("--modes", "calls", "--methods", "c", "--tables", "30", "--creators", "1"),
    *("--depths", "0", "--siblings", "0"),
)


@pytest.mark.parametrize(
    ("play", "status", "text"),
    [
        ("good", Exit.OK, "bench.json: all numbers"),
        ("fails", Exit.FAILED, "asked for"),
        ("panic", Exit.FAILED, "vm: Kernel panic - not syncing: crash"),
        ("complains", Exit.FAILED, "the kernel complained"),
    ],
)
def test_ends(play: str, status: Exit, text: str, tmp_path: Path, cache: Path) -> None:
    """The benchmark's words are passed on, its results are kept where it came to its end, and its
    status is the launcher's."""
    launcher = make_launcher(tmp_path, cache, BENCH)
    output = tmp_path / "out"
    kernel = ("--kernel", str(tmp_path / "vmlinuz"), "--output", str(output), "--user", "nobody")
    words = (*kernel, "--", "--quick", "--rounds", "3")
    done = launcher.run(play, command=[sys.executable, "-m", "vm", "bench", *words])
    assert "asked for: bench nobody --quick --rounds 3\n" in done.stdout
    assert "has ['vm/project/bench/cli.py']" in done.stdout
    assert text in done.stdout + done.stderr
    assert done.returncode == status
    assert (output / "console.log").read_text().startswith("[    0.0] Linux version")
    if play in ("good", "complains"):
        assert json.loads((output / "bench.json").read_text()) == {"schema": 1}
    else:
        assert not (output / "bench.json").exists()


def compared(launcher: Launcher, kernels: tuple[str, str], *words: str) -> tuple[int, str]:
    """Status and output of a comparison, by names of kernels and how they play."""
    folder = launcher.folder
    two = []
    for name in kernels:
        (folder / name).write_bytes((folder / "vmlinuz").read_bytes())
        launcher.environment[f"PLAY_{name}"] = name
        two += ["--kernel", str(folder / name)]
    command = [sys.executable, "-m", "vm", "bench", *two, "--output", str(folder / "out"), *words]
    done = launcher.run("", command=[*command, "--", *PLAN, "--tasks", "0", "--rounds", "2"])
    return done.returncode, done.stdout + done.stderr


def test_second_kernel_is_worse(tmp_path: Path, cache: Path) -> None:
    """The two are booted in turns, each first as often as the other; it is status 1 where all of
    the interval is past the limit."""
    launcher = make_launcher(tmp_path, cache, COMPARED)
    status, text = compared(launcher, ("good", "slow"), "--boots", "6", "--worse-than", "15")
    assert status == Exit.FAILED, text
    assert text.count("c open_tree   1.20 1.20-1.20    calls") == 2
    assert text.partition("B takes over 15 % longer:\n")[2].count("open_tree") == 1
    boots = [line[-1] for line in text.splitlines() if line.startswith("boot ")]
    assert "".join(boots) == "ABBAABBAABBA"
    assert len(list((tmp_path / "out").glob("[AB]-*.json"))) == 12


def test_same_kernel_twice_is_not_worse(tmp_path: Path, cache: Path) -> None:
    """Though it takes a third longer every other time."""
    launcher = make_launcher(tmp_path, cache, COMPARED)
    words = ("--boots", "6", "--worse-than", "0")
    status, text = compared(launcher, ("unsteady", "unsteady"), *words)
    assert (status, "B is not worse" in text) == (Exit.OK, True), text


def test_boot_that_fails_ends_a_comparison(tmp_path: Path, cache: Path) -> None:
    """With what the benchmark said there."""
    launcher = make_launcher(tmp_path, cache, COMPARED)
    status, text = compared(launcher, ("good", "fails"))
    assert status == Exit.FAILED
    assert "vm: B, boot 1: asked for: --modes calls" in text


@pytest.mark.parametrize(
    ("kernels", "words", "why"),
    [
        (1, "--boots 3", "--boots needs two kernels\nhint: --kernel BEFORE --kernel AFTER"),
        (1, "--worse-than 3", "--worse-than needs two kernels"),
        (3, "", "compares two kernels, not 3"),
        (2, "--worse-than -3", "'-3' is not a number of percent"),
        (2, "--worse-than 5 --boots 2 --", "too few to say of all methods and points"),
        (2, "-- --tabels 3", "did you mean --tables?"),
    ],
)
def test_comparison_that_cannot_be(
    kernels: int, words: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is said before a kernel is looked for."""
    words = words.replace(" -3", "=-3")
    given = ["--kernel", "/missing"] * kernels
    assert main(["bench", *given, *words.split()]) == Exit.USAGE
    assert why in capsys.readouterr().err
