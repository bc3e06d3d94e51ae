# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm shell` in a real guest: a script, and a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import termios

import pytest

from tests.harness.helpers.real_guest import (
    DEADLY,
    GUESTS,
    RealLauncher,
    drain,
    read_until,
    shell_command,
)
from vm.errors import Exit

pytestmark = GUESTS

#: The end of what the guest's shell asks with.
PROMPT = b"/vm/project # "


def test_a_script_is_run_in_the_guest_and_gives_the_status(launcher: RealLauncher) -> None:
    script = f"pytest -q {DEADLY}::test_before\ncd /; echo $((6 * 7))\nexit 9\n"
    done = launcher.run(command=shell_command(launcher), input=script)
    assert done.returncode == 9, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert done.stdout.splitlines()[-1] == "42"
    assert "emulation" not in done.stdout  # which is the script's alone


@pytest.mark.parametrize(
    ("keys", "status"),
    [
        ((b"\x03", b"exit 5\r"), 5),  # what runs there is interrupted, and the shell is not
        ((b"\x1d",), Exit.INTERRUPTED),
    ],
    ids=["exit", "escape"],
)
def test_a_terminal_is_given_a_prompt_and_gets_its_settings_back(
    launcher: RealLauncher, keys: tuple[bytes, ...], status: int
) -> None:
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    with launcher.started(
        command=shell_command(launcher),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        seen = read_until(ours, PROMPT)
        assert termios.tcgetattr(theirs) != before
        # One process from the first word to the last: an interrupt between two commands of a list
        # ends neither of them, and one that waits for a command ends as that command does.
        os.write(ours, b"sh -c 'tty; echo a$((6 * 7))b; exec cat'\r")
        assert b"/dev/tty" in read_until(ours, b"a42b")
        for key in keys[:-1]:
            os.write(ours, key)
            seen += read_until(ours, PROMPT)  # the shell drops what is typed before it
        os.write(ours, keys[-1])
        drain(ours, process)
    assert process.returncode == status, seen
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)
