# SPDX-License-Identifier: GPL-2.0-only
"""User-Mode Linux: where its memory goes, and what it says of a host that does not let it run.

That it says so is seen in vm/guests, on a real full file system and under real filters.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.helpers.suite import ROOT
from vm.arch import X86_64
from vm.backend.base import Boot, Command, Machine
from vm.backend.qemu import Qemu
from vm.backend.uml import Uml
from vm.kernel.image import Kernel, Kind
from vm.run.guest import trouble

KERNEL = Kernel(Path("/k/linux"), Kind.UML, "7.9", "k")
#: Print where a guest's memory goes, or why it cannot be started.
ASK = """
import sys
from tests.harness.vm.backend.test_uml import command
from vm.errors import Problem
try:
    print(dict(command(int(sys.argv[1]), int(sys.argv[2])).environment)["TMPDIR"])
except Problem as problem:
    print(problem)
"""
Place = Callable[..., str]


def command(memory: int = 1, slot: int = 1) -> Command:
    machine = Machine(memory, slot=slot)
    return Uml().command(Boot(KERNEL, Path("/i"), "fd:3", machine, Path("/s")))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Where the memory goes on a machine with these mounts: /dev/shm, and a folder that is named by
    TMPDIR if it is *given*."""

    def ask(memory: int, shm: str, slot: int = 1, given: str = "") -> str:
        mounts = f"mount -t tmpfs -o {shm} none /dev/shm && "
        if given:
            mounts += f"mount -t tmpfs -o {given} none {tmp_path} && "
        isolated = ["unshare", "-rm", "sh", "-c", f'{mounts}exec "$@"', "sh"]
        if subprocess.run([*isolated, "true"], capture_output=True, check=False).returncode:
            pytest.skip("no user namespace to mount a small file system in")
        variables = {"TMPDIR": str(tmp_path) if given else "", "TMP": "", "TEMP": ""}
        done = subprocess.run(
            [*isolated, sys.executable, "-c", ASK, str(memory), str(slot)],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return ask


def test_the_memory_goes_where_there_is_room_for_it(place: Place) -> None:
    assert place(100, "size=200m") == "/dev/shm"
    assert place(100, "size=64m") == "/tmp"  # as Docker has it by default
    assert place(100, "size=200m,noexec") == "/tmp"


def test_each_of_several_guests_counts_those_before_it(place: Place) -> None:
    assert [place(100, "size=250m", slot) for slot in (1, 2, 3)] == ["/dev/shm"] * 2 + ["/tmp"]


def test_a_folder_of_the_users_comes_first_and_is_passed_over_without_room(
    place: Place, tmp_path: Path
) -> None:
    assert place(100, "size=200m", given="size=200m") == str(tmp_path)
    assert place(100, "size=200m", given="size=64m") == "/dev/shm"


def test_without_room_anywhere_a_line_and_a_hint_say_so(place: Place, tmp_path: Path) -> None:
    first, second = place(1 << 30, "size=64m", 2, "size=60m").splitlines()
    assert first.startswith(f"no room for the memory of 2 guests, {2 << 30} MiB: {tmp_path} has 60")
    assert ", /dev/shm has 64 MiB, /tmp has " in first
    assert second.startswith("hint: less --memory, fewer --guests, or TMPDIR")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (
            "[    3.57] Bus error - the host /dev/shm or /tmp mount likely just ran out of space",
            "ran out of room",
        ),
        ("[    3.5] Kernel panic - not syncing: Kernel mode signal 7", "ran out of room"),
        ("check_ptrace : expected SIGSTOP, got status = 9", "neither trace"),
        ("/dev/shm must be not mounted noexec", "no program may be run"),
        ("Too few physical memory! Needed=29360128, given=5242880", "memory is too small"),
        ("[    3.5] Kernel panic - not syncing: Kernel mode signal 11", ""),
        ("[    3.5] Kernel panic - not syncing: Kernel mode signal 77", ""),
    ],
)
def test_its_words_for_the_hosts_troubles_are_known(said: str, problem: str) -> None:
    found = trouble(command(), ["before", said, "after"], -signal.SIGABRT)
    assert problem in found
    assert bool(problem) == bool(found) == ("\nhint: " in found)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory", "mem"),
        ("qemu: initrd is too large, cannot support.(max: 5079039, need 51162260)", "too small"),
        ("qemu-kvm: -accel tcg: invalid accelerator tcg", "neither emulate"),
        ("[    1.0] Kernel panic - not syncing: VFS: Unable to mount root fs", ""),
    ],
)
def test_so_are_those_of_qemu(said: str, problem: str) -> None:
    kernel = Kernel(Path("/k/bzImage"), Kind.BZIMAGE, "7.9", "k")
    boot = Boot(kernel, Path("/i"), "/r", Machine(), Path("/s"))
    found = trouble(Qemu(Path("/usr/bin/qemu"), X86_64).command(boot), [said], 1)
    assert problem in found
    assert bool(problem) == bool(found)


def test_a_filter_that_ends_the_program_is_named() -> None:
    for status in (-signal.SIGSYS, 128 + signal.SIGSYS):
        assert trouble(command(), [], status).startswith(
            "a seccomp filter ended linux (SIGSYS)\nhint:"
        )


def test_the_benchmark_has_more_memory_unless_told() -> None:
    """Ten thousand sleeping tasks do not fit into what the cases need."""
    backend = Uml()
    sizes = [backend.memory(Machine(given, measured=True)) for given in (None, 700)]
    assert sizes == [1024, 700]
    assert backend.memory(Machine(None)) == 512
