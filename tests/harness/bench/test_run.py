# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark as a program, on any kernel: its numbers, its system calls, and what it leaves.

Kernels without the flag have two of the methods, which is enough for that.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from bench.layout import Ground, Layout
from bench.methods import METHODS
from bench.results import load
from bench.work import Done, Job, repeated, too_old
from bench.workers import Workers, WorkersFailed
from tests.utils.probes.plugin import NEEDS
from vm.paths import ROOT

SHORT = (
    "--tables",
    "1,5",
    "--depths",
    "0",
    "--siblings",
    "0",
    "--creators",
    "1,2",
    "--tasks",
    "0,9",
)


@pytest.fixture(autouse=True)
def _needs() -> None:
    missing = NEEDS["mount namespace"]()
    if missing or too_old():
        pytest.skip(missing.reason if missing else too_old())


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "bench", *SHORT, "--methods", "a,b", *words]


def start(*words: str, leash: int) -> subprocess.Popen[str]:
    """The benchmark, all of whose processes hold *leash*."""
    return subprocess.Popen(
        command("--progress", *words),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=(leash,),
    )


@contextmanager
def nobody_left(*, soon: bool = False) -> Iterator[None]:
    """At the end of the block all processes that were forked in it are gone, or are *soon*."""
    held, leash = os.pipe()
    os.set_blocking(held, soon)
    try:
        yield
        os.close(leash)
        # Else it would be EAGAIN: somebody has the other end open still.
        assert os.read(held, 1) == b""
    finally:
        os.close(held)


def test_numbers(tmp_path: Path) -> None:
    """Every point has its rates, by the kernel's own count of mounts a container is what it is
    said to be, and standard error is empty."""
    file = tmp_path / "results.json"
    done = subprocess.run(
        command("--seconds", "0.02", "--rounds", "2", "--json", str(file)),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = load(file.read_text())
    assert [*found.rates] == found.plan.points()
    assert {method.mounts for method in found.methods.values()} == {1}
    assert all(method.created and method.created >= 2 for method in found.methods.values())


@pytest.mark.parametrize("mode", ["calls,process", "forker", "reader-busy"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_leaves_nothing(number: signal.Signals, mode: str) -> None:
    """However it ends in the midst of measuring, all its processes end with it, and with them
    their namespaces and mounts, and the tasks that sleep."""
    held, leash = os.pipe()
    tasks = "90" if mode == "forker" else "0"
    process = start("--seconds", "600", "--modes", mode, "--tasks", tasks, leash=leash)
    os.close(leash)
    assert process.stderr is not None
    with os.fdopen(held, "rb") as pipe, process:
        said = ""
        while "round 1" not in said:
            said += process.stderr.read(1)
        process.send_signal(number)
        assert pipe.read() == b""  # the end of it: nobody has it open any more
        said = process.stderr.read()
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in said


def test_workers_at_work_ends_with_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that is killed takes a process along that looks at nothing but its work."""
    busy, at_work = os.pipe()

    def perform(_job: Job, _ground: Ground) -> None:
        os.write(at_work, b"!")
        signal.pause()

    monkeypatch.setattr("bench.workers.perform", perform)
    with nobody_left(soon=True):
        pid = os.fork()
        if pid == 0:
            try:
                Workers(Layout(1), 1).work([Job("calls")])
            finally:
                os._exit(1)
        assert os.read(busy, 1) == b"!"
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(busy)
    os.close(at_work)


def test_workers_ends_with_its_block() -> None:
    """No process is left at the end, also when it comes by an error."""

    def work_and_fail() -> None:
        with Workers(Layout(3), 2) as workers:
            done = workers.work([Job("calls", "b", 0.0)] * 2)
            assert [isinstance(one, Done) for one in done] == [True, True]
            raise ZeroDivisionError

    with nobody_left(), pytest.raises(ZeroDivisionError):
        work_and_fail()


def test_dead_process_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a measuring process dies, the others are ended, and it is said."""

    def perform(job: Job, _ground: Ground) -> None:
        signal.pause() if job.letter == "a" else os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("bench.workers.perform", perform)
    with Workers(Layout(1), 2) as workers, pytest.raises(WorkersFailed, match="has died"):
        workers.work([Job("calls", "a"), Job("calls", "b")])


def test_failed_set_up_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the kernel refused while the ground was made is passed on, and nothing is left."""

    def prepare(_layout: Layout) -> None:
        raise OSError(28, "mount: No space left on device")

    monkeypatch.setattr("bench.workers.prepare", prepare)
    error = r"mount: No space .*\nhint: see sysctl fs\.mount-max"
    with nobody_left(), pytest.raises(WorkersFailed, match=error):
        Workers(Layout(1), 2)


def test_repeated() -> None:
    """At least once, and each call counts, also when they are made in batches."""
    calls: list[int] = []
    found = repeated(partial(calls.append, 1), 0.0)
    assert (found.count, len(calls)) == (1, 1)
    found = repeated(partial(calls.append, 1), 0.01)
    assert found.count == len(calls) - 1
    assert found.count > 1
    assert found.seconds >= 0.01


_TRACED = """
import os, sys
sys.path.insert(0, {root!r})
from bench.calls import Calls, real
from bench.layout import Layout, prepare
from bench.methods import METHODS
from bench.program import Program
from tests.utils.uapi.caps import CAP_SYS_ADMIN, capget
from tests.utils.tasks.userns import enter_new_userns

if not capget().has(CAP_SYS_ADMIN):
    enter_new_userns()
ground = prepare(Layout(3))
kernel = real()

def lenient(name):
    def call(*arguments):
        try:
            return getattr(kernel, name)(*arguments)
        except OSError:
            return -1
    return call

for letter, method in METHODS.items():
    made_by = Calls(lenient) if letter in {absent!r} else kernel
    os.access("begin " + letter, 0)
    method.run(made_by, ground.root)
    os.access("end", 0)
    kernel.setns(ground.home, 0)
    if letter not in {absent!r}:
        program = Program(lambda k: method.run(k, ground.root))
        os.access("begin " + letter + " in a process", 0)
        program.run_in_child()
        os.access("end", 0)
"""
#: Names by which the C library makes a call, and calls by which the interpreter gets its memory.
_OTHER_NAMES = {"openat": "open"}
_MEMORY = ("brk", "mmap", "munmap", "madvise")


def traced(output: Path) -> dict[str, list[str]]:
    """The system calls of each method as strace(1) sees them; skips where that cannot be had.

    A method that the kernel lacks goes on when it is refused: its calls are made all the same.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    absent = "".join(letter for letter, method in METHODS.items() if method.absent())
    program = _TRACED.format(root=str(ROOT), absent=absent)
    done = subprocess.run(
        [strace, "-f", "-o", str(output), sys.executable, "-c", program],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in output.read_text().splitlines():
        name = line.partition(" ")[2].strip().partition("(")[0]
        if mark := re.search(r'"(begin ([^"]+)|end)"', line):
            names = found.setdefault(mark[2], []) if mark[2] else []
        elif re.fullmatch(r"\w+", name) and name not in _MEMORY:
            names.append(_OTHER_NAMES.get(name, name))
    return found


def test_calls_are_those_counted(tmp_path: Path) -> None:
    """What a method is said to call is what the kernel is asked for, call by call."""
    found = traced(tmp_path / "trace")
    expected = {letter: method.calls for letter, method in METHODS.items()}
    for letter, method in METHODS.items():
        if not method.absent():
            expected[f"{letter} in a process"] = ["clone", *method.calls, "exit", "wait4"]
    assert found == expected
