# SPDX-License-Identifier: GPL-2.0-only
"""Guests that fail in every way: each is told apart, and keeps what came before."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.harness.helpers.launcher import complaints
from tests.harness.helpers.real_guest import (
    GUESTS,
    RealLauncher,
    deadly,
    wait_until_it_waits,
)
from vm.errors import Exit
from vm.initramfs import python

pytestmark = GUESTS


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
