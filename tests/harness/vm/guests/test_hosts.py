# SPDX-License-Identifier: GPL-2.0-only
"""Hosts that end a guest, refuse it something or have too little: told as the host's trouble, and
never as the kernel's."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.helpers import filters
from tests.harness.helpers.cgroup import group
from tests.harness.helpers.launcher import complaints
from tests.harness.helpers.real_guest import (
    GUESTS,
    WAITING,
    RealLauncher,
    deadly,
    read_until,
    shell_command,
    wait_until_it_waits,
)
from vm.errors import Exit

pytestmark = GUESTS


def in_small_file_system(folder: Path, size: str) -> list[str]:
    """Words before a command line that have it run with a small tmpfs on *folder*."""
    script = f'mount -t tmpfs -o size={size} none "{folder}" && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", script, "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace to mount a small file system in")
    return words


def test_a_guest_that_is_killed_is_no_verdict_on_its_kernel(launcher: RealLauncher) -> None:
    with launcher.started(*deadly("before", "wait", "after"), "-s") as process:
        wait_until_it_waits(process)
        (guest,) = launcher.guests(process)
        os.kill(guest, signal.SIGKILL)
        text, errors = process.communicate()
    assert process.returncode == Exit.HOST, text + errors
    assert "the guest was killed from outside (SIGKILL) in tests/" in text
    assert launcher.outcomes() == {"before": "passed", "wait": "error", "after": "passed"}


def test_a_container_with_too_little_memory_is_told_so(uml_launcher: RealLauncher) -> None:
    launcher = uml_launcher
    isolated = in_small_file_system(launcher.temporary, "600m")
    with group("memory", memory__limit_in_bytes=str(150 << 20)) as folder:

        def enter() -> None:
            (folder / "cgroup.procs").write_text(str(os.getpid()))

        words = launcher.command("--memory=512", *deadly("before", "memory", "after"))
        done = launcher.run(command=[*isolated, *words], preexec_fn=enter)
    assert done.returncode == Exit.HOST, done.stdout + done.stderr
    found = complaints(done.stderr).splitlines()
    assert found[0].startswith("vm: the guests have 512 MiB of memory together, and ")
    assert found[2] == "vm: the host ran out of memory and killed a guest"
    assert [line[:6] for line in found[1::2]] == ["hint: "] * 2
    assert "the host ran out of memory" in done.stdout.splitlines()[-1]


def test_an_interrupt_ends_all_guests_and_keeps_what_they_said(launcher: RealLauncher) -> None:
    words = deadly("before", "wait", "after")
    with launcher.started(*words, "-s") as process:
        wait_until_it_waits(process)
        os.killpg(process.pid, signal.SIGINT)
        text, errors = process.communicate()
    assert process.returncode == Exit.INTERRUPTED
    assert complaints(errors) == "vm: interrupted (SIGINT)\n"
    assert "interrupted in tests/harness/helpers/deadly.py::test_wait: 1 passed before" in text
    assert launcher.outcomes()["before"] == "passed"
    assert launcher.summary()["incomplete"].startswith("interrupted in ")
    assert "Bail out!" in (launcher.output / "results.ktap").read_text()


def test_a_launcher_that_is_killed_takes_its_guests_along(launcher: RealLauncher) -> None:
    with launcher.started("--guests=2", *deadly("before", "wait")) as process:
        while len(launcher.guests(process)) < 2:
            assert process.poll() is None, process.communicate()
        process.kill()
    shutil.rmtree(launcher.temporary)  # nobody is left who could
    launcher.temporary.mkdir()


def test_a_terminal_that_is_closed_ends_the_run(launcher: RealLauncher) -> None:
    ours, theirs = pty.openpty()
    with launcher.started(
        *deadly("before", "wait", "after"),
        "-s",
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:
        os.close(theirs)
        seen = read_until(ours, WAITING.encode())
        os.close(ours)
        assert process.wait() == Exit.INTERRUPTED
    assert b"\r\x1b[K0/? cases, 0 failed" in seen
    assert launcher.outcomes()["before"] == "passed"


def test_closed_standard_input_does_no_harm(launcher: RealLauncher) -> None:
    closing = ["sh", "-c", 'exec "$@" <&-', "sh"]
    done = launcher.run(command=[*closing, *launcher.command(*deadly("before"))], stdin=None)
    assert done.returncode == Exit.OK, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("folder", "size", "text"),
    [
        ("tmp", "8m", "^vm: No space left on device: .*initramfs"),
        ("out", "16k", "^vm: No space left on device: .*out"),
    ],
)
def test_a_full_disk_is_the_hosts_fault(
    launcher: RealLauncher, folder: str, size: str, text: str
) -> None:
    launcher.output.mkdir()
    small = launcher.folder / folder
    command = in_small_file_system(small, size)
    done = launcher.run(command=[*command, *launcher.command(*deadly("before", "hang"))])
    assert done.returncode == Exit.HOST, done.stdout + done.stderr
    found = complaints(done.stderr)
    assert re.search(text, found), done.stderr
    assert found.count("\n") == 1
    if folder == "out":
        assert "1 error, 1 passed in" in done.stdout.splitlines()[-1]


def test_memory_that_the_host_cannot_give_is_no_fault_of_the_kernels(
    uml_launcher: RealLauncher,
) -> None:
    """A file system that others fill while the guest runs: there was room when it began."""
    launcher = uml_launcher
    isolated = in_small_file_system(launcher.temporary, "260m")
    words = launcher.command("--memory", "200", *deadly("before", "memory", "after"))
    with launcher.started(command=[*isolated, *words]) as process:
        console = launcher.output / "console.log"
        while not (console.exists() and console.stat().st_size):
            assert process.poll() is None, process.communicate()
        filler = Path(f"/proc/{process.pid}/root{launcher.temporary}/filler")
        with suppress(OSError), filler.open("wb") as file:
            while file.write(b"x" * (1 << 20)):
                file.flush()
        text, errors = process.communicate()
    assert process.returncode == Exit.HOST, text + errors
    first, second = complaints(errors).splitlines()
    assert first == "vm: the host ran out of room for the memory of User-Mode Linux"
    assert second.startswith("hint: less --memory")
    # Before the first case or after some: that is as quick as the filling.
    assert "the host ran out of room" in text.splitlines()[-1].partition("uml: ")[2]


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("EPERM ptrace,EPERM seccomp", "may neither trace its processes here nor filter"),
        ("kill ptrace", "a seccomp filter ended "),
    ],
)
def test_a_host_that_lets_no_user_mode_linux_run_is_told_so(
    uml_launcher: RealLauncher, rules: str, text: str
) -> None:
    def refuse() -> None:
        for rule in rules.split(","):
            filters.install(*rule.split())

    done = uml_launcher.run(*deadly("before"), preexec_fn=refuse)
    assert done.returncode == Exit.HOST, done.stdout + done.stderr
    first, second = complaints(done.stderr).splitlines()
    assert text in first
    assert second.startswith("hint: allow ")


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("EPERM statmount", "statmount(2) gave EPERM: a seccomp filter is in force"),
        ("ENOSYS listmount,EPERM fsopen", "listmount(2) gave ENOSYS, fsopen(2) gave EPERM: a sec"),
        ("kill move_mount", "move_mount(2) ended in SIGSYS: a seccomp filter kills"),
    ],
)
def test_a_sandbox_that_refuses_what_cases_stand_on_is_one_reason_to_skip(
    launcher: RealLauncher, rules: str, text: str
) -> None:
    words = "-q -rs -p tests.harness.helpers.filters tests/open_tree_ns/test_covered.py"
    script = f"export {filters.VARIABLE}='{rules}'\npytest {words}\nexit 0\n"
    done = launcher.run(command=shell_command(launcher), input=script)
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert re.fullmatch(r"\d+ skipped in .*", done.stdout.splitlines()[-2])
    lines = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED [")]
    (reason,) = {line.partition("py:")[2].partition(": ")[2] for line in lines}
    assert reason.startswith(text)
