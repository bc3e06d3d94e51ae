# SPDX-License-Identifier: GPL-2.0-only
"""Real guests that fail in every way: each is told apart, keeps what came before, leaves nothing.

A kernel boots for each of them, so they are run where one is named: by `python3 -m vm check`.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.helpers import filters
from tests.harness.helpers.cgroup import group
from tests.harness.helpers.launcher import complaints
from tests.harness.helpers.real_guest import (
    DEADLY,
    KERNEL,
    VARIABLE,
    RealLauncher,
    deadly,
    drain,
    lacking,
    read_until,
)
from vm.arch import UM
from vm.errors import Exit
from vm.initramfs import python
from vm.kernel.source import find

pytestmark = [
    pytest.mark.skipif(
        not KERNEL, reason=f"boots real guests: set {VARIABLE} to what --kernel takes"
    ),
    pytest.mark.timeout(300),  # they share the processors
]
#: What a run of the case that waits has on its way there: "." for the case before, and its words.
WAITING = "waiting"


@pytest.fixture(scope="module", autouse=True)
def _a_machine_for_guests() -> None:
    if reason := lacking():
        pytest.skip(reason)


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[RealLauncher]:
    """A launcher that must leave nothing behind."""
    found = RealLauncher(tmp_path)
    yield found
    found.assert_nothing_is_left()


@pytest.fixture
def uml_launcher(launcher: RealLauncher) -> RealLauncher:
    """A launcher whose guests are User-Mode Linux."""
    if find(launcher.kernel, UM, None).arch is not UM:
        pytest.skip("only User-Mode Linux is such a program")
    return launcher


def in_small_file_system(folder: Path, size: str) -> list[str]:
    """Words before a command line that have it run with a small tmpfs on *folder*."""
    script = f'mount -t tmpfs -o size={size} none "{folder}" && exec "$@"'
    words = ["unshare", "-rm", "sh", "-c", script, "sh"]
    if subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespace to mount a small file system in")
    return words


# --- before the first case ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--append", "rdinit=/no/such"), "Kernel panic - .*root fs"),
        (("--append", "rdinit=/etc/passwd"), "Kernel panic - .*No working init"),
        (
            ("--append", "rdinit=PYTHON -- -c __import__('os')._exit(3)"),
            "Kernel panic - .*Attempted to kill init",
        ),
        (
            ("--append", "rdinit=PYTHON -- -c __import__('signal').pause()", "--boot-limit=5"),
            "boot limit",
        ),
        (("--memory", "90"), "memory; give it more --memory"),
    ],
    ids=["no init", "bad init", "init dies", "hang", "memory"],
)
def test_a_guest_that_does_not_come_up_is_no_failure_of_a_case(
    launcher: RealLauncher, words: tuple[str, ...], text: str
) -> None:
    executable = str(python.find().executable)
    words = tuple(word.replace("PYTHON", executable) for word in words)
    done = launcher.run(*words, *deadly("before"))
    assert done.returncode == Exit.NOT_BOOTED, done.stdout + done.stderr
    assert re.search(f"not booted: .*{text}", done.stdout.splitlines()[-1]), done.stdout
    assert complaints(done.stderr) == ""
    assert launcher.outcomes() == {"run": "error"}


# --- in a case ------------------------------------------------------------------------------------


def test_a_panic_costs_the_case_that_ran_and_the_others_go_on(launcher: RealLauncher) -> None:
    done = launcher.run("--guests", "2", *deadly("before", "panic", "after", "hang"))
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    assert launcher.outcomes() == {
        "before": "passed",
        "panic": "error",
        "after": "passed",
        "hang": "timeout",
    }
    assert (
        "guest 2 died in tests/harness/helpers/deadly.py::test_panic; guest 3 goes on"
        in done.stdout
    )
    assert "Kernel panic - not syncing: sysrq triggered crash in tests/" in done.stdout
    assert "sysrq triggered crash" in (launcher.output / "console-2.log").read_text()
    assert launcher.summary()["incomplete"] == ""


def test_nothing_goes_on_when_the_first_failure_is_to_end_the_run(launcher: RealLauncher) -> None:
    done = launcher.run(*deadly("before", "panic", "after"), "-x")
    assert done.returncode == Exit.FAILED
    assert launcher.outcomes() == {"before": "passed", "panic": "error", "after": "error"}
    assert "sysrq triggered crash" in launcher.summary()["incomplete"]


def test_a_guest_that_hangs_is_stopped_at_the_run_limit(launcher: RealLauncher) -> None:
    done = launcher.run("--run-limit=20", *deadly("before", "wait", "after"))
    assert done.returncode == Exit.RUN_LIMIT, done.stdout + done.stderr
    assert launcher.outcomes() == {"before": "passed", "wait": "timeout", "after": "error"}


def test_a_case_that_takes_all_memory_is_killed_and_the_run_goes_on(launcher: RealLauncher) -> None:
    done = launcher.run("--memory=192", *deadly("before", "memory", "after"))
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    assert launcher.outcomes() == {"before": "passed", "memory": "error", "after": "passed"}
    assert "Out of memory: Killed process" in (launcher.output / "console.log").read_text()


def test_a_flood_on_the_console_fills_no_disk(launcher: RealLauncher) -> None:
    done = launcher.run(*deadly("before", "flood", "after"))
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    console = (launcher.output / "console.log").read_bytes()
    assert len(console) < 18 << 20
    assert re.search(rb"\n\[\.\.\. \d+ bytes left out \.\.\.\]\n", console)


def test_what_is_no_message_on_the_line_to_the_host_fails_the_run(launcher: RealLauncher) -> None:
    done = launcher.run(*deadly("before", "spam", "after"))
    assert done.returncode == Exit.FAILED
    assert "messages of the guest were lost" in done.stdout.splitlines()[-1]
    assert set(launcher.outcomes().values()) == {"passed", "error"}


# --- from outside ---------------------------------------------------------------------------------


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    """Read what the launcher prints until the case that waits has begun."""
    assert process.stdout is not None
    assert any(WAITING in line for line in process.stdout), process.communicate()


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


# --- several kernels ------------------------------------------------------------------------------


def test_kernels_are_compared_and_those_that_do_not_boot_take_nothing_away(
    launcher: RealLauncher,
) -> None:
    bad = launcher.folder / "no-kernel"
    bad.write_text("nothing")
    done = launcher.run("--kernel", str(bad), *deadly("before"))
    assert done.returncode == Exit.HOST, done.stdout + done.stderr
    assert "1 passed" in done.stdout
    assert f"{bad}: not a kernel image" in done.stderr
    assert (launcher.output / "matrix.json").exists()


# --- virtme-ng ------------------------------------------------------------------------------------


def test_virtme_ng_gives_what_the_other_backends_do(launcher: RealLauncher) -> None:
    """Results as they come, the case that ran when vng was killed, and no QEMU left behind."""
    launcher.kernel = "debian"
    words = deadly("before", "wait", "after")
    with launcher.started("--backend", "virtme-ng", *words, "-s", "-x") as process:
        wait_until_it_waits(process)
        (vng,) = launcher.guests(process)
        os.kill(vng, signal.SIGKILL)
        text, errors = process.communicate()
    assert process.returncode == Exit.HOST, text + errors
    assert "killed from outside (SIGKILL) in tests/harness/helpers/deadly.py::test_wait" in text
    assert launcher.outcomes() == {"before": "passed", "wait": "error", "after": "error"}
    assert launcher.summary()["backend"].startswith("virtme-ng/")


# --- the shell ------------------------------------------------------------------------------------


#: The end of what the guest's shell asks with.
PROMPT = b"/vm/project # "


def shell_command(launcher: RealLauncher) -> list[str]:
    """The launcher's command line that gives a shell."""
    return [sys.executable, "-m", "vm", "shell", "--kernel", launcher.kernel]


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
