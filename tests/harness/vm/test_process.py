# SPDX-License-Identifier: GPL-2.0-only
"""What the launcher starts ends with it, however that ends, with all it has started in turn."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vm import paths
from vm.errors import Problem
from vm.process import started

_LAUNCHER = """
import signal, sys
from vm.process import started
fd, script, ending = int(sys.argv[1]), sys.argv[2], signal.Signals[sys.argv[3]]
with started(["sh", "-c", script], (fd,), ending=ending):
    signal.pause()
"""
#: Starts a process of its own, as vng does, which has the pipe too.
_PROGRAM = """
trap 'echo asked >/proc/self/fd/{fd}; exit' TERM
sh -c 'echo begun >/proc/self/fd/{fd}; exec sleep 600' &
wait
"""


@pytest.mark.parametrize(("ending", "said"), [("SIGKILL", b""), ("SIGTERM", b"asked\n")])
def test_nothing_outlives_a_launcher_that_is_killed(ending: str, said: bytes) -> None:
    ours, theirs = os.pipe()
    words = [str(theirs), _PROGRAM.format(fd=theirs), ending]
    command = [sys.executable, "-c", _LAUNCHER, *words]
    with (
        open(ours, "rb") as seen,
        subprocess.Popen(command, pass_fds=[theirs], cwd=paths.ROOT) as launcher,
    ):
        os.close(theirs)
        assert seen.readline() == b"begun\n"
        launcher.kill()
        assert seen.read() == said  # up to its end: nobody has the pipe any more


def test_a_program_is_watched_from_its_first_instruction_on() -> None:
    ours, theirs = os.pipe()
    # The launcher gets nothing done between the fork and its death.
    slow = "import os, time; os.register_at_fork(after_in_parent=lambda: time.sleep(60))"
    command = [sys.executable, "-c", slow + _LAUNCHER]
    command += [str(theirs), "kill -KILL $PPID; exec sleep 600", "SIGKILL"]
    with (
        open(ours, "rb") as seen,
        subprocess.Popen(command, pass_fds=[theirs], cwd=paths.ROOT),
    ):
        os.close(theirs)
        assert seen.read() == b""


def test_nothing_is_left_when_the_block_is_left() -> None:
    ours, theirs = os.pipe()
    with open(ours, "rb") as seen, open(theirs, "wb") as held:
        with started(["sh", "-c", _PROGRAM.format(fd=theirs)], (theirs,)):
            held.close()
            assert seen.readline() == b"begun\n"
        assert seen.read() == b""


def test_a_program_that_cannot_be_started_is_named() -> None:
    said = r"^cannot start /no/such: No such file or directory$"
    with pytest.raises(Problem, match=said), started(["/no/such"]):
        pass


def test_a_program_cannot_leave_for_a_session_of_its_own() -> None:
    # As User-Mode Linux tries when it starts; the group is what it is ended by.
    with started([sys.executable, "-c", "import os; os.setsid()"]) as program:
        _, errors = program.process.communicate()
    assert b"PermissionError" in errors
