# SPDX-License-Identifier: GPL-2.0-only
"""What the user asks of a run, and what of it a guest is told."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.utils import cgroups
from vm import paths
from vm.arch import Processor
from vm.backend.base import MEMORY, Machine
from vm.guest.protocol import SITE, Job
from vm.initramfs import python
from vm.run import system
from vm.run.guest import Limits
from vm.run.pytest_words import Words
from vm.run.system import System

_DEFAULT_CASES = "tests/open_tree_ns"
#: In the guest.
_WAIVERS = "/run/waivers.toml"
#: By default; each takes a few hundred megabytes.
_MOST_GUESTS = 4


@dataclass(frozen=True)
class Options:
    """What the command line asks of a run."""

    pytest: tuple[str, ...] = ()
    user: str = "root"
    #: The contents of a file for pytest's --waive, empty for none.
    waivers: str = ""
    output: Path | None = None
    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)
    #: What the guest's programs are for, None for what the kernel is.
    userland: Processor | None = None
    #: The complete system to boot, None for an initramfs with the cases and no more.
    system: System | None = None
    guests: int = 1
    #: Kernels whose guests run at the same time.
    jobs: int = 1
    #: Whether guests send which lines of the kernel ran.
    coverage: bool = False
    dry_run: bool = False
    verbose: bool = False

    @property
    def requirements(self) -> str:
        """The optional group of requirements that the cases need, empty for none."""
        return "model" if Words.of(self.pytest).has("stress", "stress-seed") else ""

    @property
    def most_failures(self) -> int:
        """After how many failures pytest is to stop, 0 for never."""
        return Words.of((*_added(), *self.pytest)).most_failures


def _added() -> list[str]:
    """Return the words that pytest takes from the environment."""
    try:
        return shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))
    except ValueError:
        return []  # pytest will say so


def color() -> bool:
    """Return whether to print colours: to a terminal, and not against the user's wish
    (NO_COLOR)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def pytest_arguments(
    given: tuple[str, ...], root: Path = paths.ROOT, plain: bool = False
) -> list[str]:
    """pytest's arguments in the guest: *given*, and the kernel cases when no path is among them.

    *plain* is pytest as a system has it, with all of its plugins.
    """
    without = [] if plain else ["cacheprovider"]
    if not (plain or has_workers(given)):
        without.append("xdist")
    named = Words.of(given).names_cases(root)
    fixed = [f"--color={'yes' if color() else 'no'}", *(f"-pno:{name}" for name in without)]
    return [*fixed, *given, *([] if named else [_DEFAULT_CASES])]


def has_workers(pytest: Sequence[str]) -> bool:
    """Return whether pytest is to share the cases among processes of its own (pytest-xdist)."""
    return Words.of(pytest).has("n", "numprocesses", "dist")


def job(
    found: python.Runtime, options: Options, nonce: str, only: Sequence[str] = (), failed: int = 0
) -> Job:
    """Return what a guest is to do; of its cases *only* these, if any.

    :param failed: how many failures there have been, where pytest is to stop after some.
    """
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root" if options.user == "root" else "/tmp",
        "USER": options.user,
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "COLUMNS": str(shutil.get_terminal_size((80, 24)).columns),
        "PYTHONPATH": SITE,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT", "NO_COLOR", "CI"):
        if name in os.environ:
            environment[name] = os.environ[name]
    more = [f"--waive={_WAIVERS}"] if options.waivers else []
    if failed and options.most_failures:
        more.append(f"--maxfail={options.most_failures - failed}")
    root, plain = (options.system.checkout, True) if options.system else (paths.ROOT, False)
    whole = Job(
        nonce,
        arguments=pytest_arguments((*options.pytest, *more), root, plain),
        user=options.user,
        environment=environment,
        packages=found.versions,
        files={_WAIVERS: options.waivers} if options.waivers else {},
        only=list(only),
        coverage=options.coverage,
    )
    return whole if options.system is None else system.job(whole, options.system)


def default_guests(pytest: Sequence[str], kernels: int = 1, memory: int | None = None) -> int:
    """Return how many guests share the cases of a kernel: one per processor, fewer where several
    kernels share the processors or the memory is short, or one for a look at a single case.

    :param memory: of each guest, in MiB; None for the default.
    """
    words = Words.of(pytest)
    single = any("::" in place for place in words.places)
    if single or has_workers(pytest) or words.has("co", "collect-only"):
        return 1
    return max(1, min(cgroups.processors() // kernels, _MOST_GUESTS, fitting(memory)))


def default_jobs(guests: int, machine: Machine) -> int:
    """Return how many kernels are tested at a time, each in so many *guests*."""
    processors = cgroups.processors() // (guests * machine.cpus)
    return max(1, min(processors, fitting(machine.memory) // guests))


def fitting(memory: int | None) -> int:
    """Return how many guests of *memory* MiB, None for the default, this machine has the memory
    for."""
    return (cgroups.memory() >> 20) // (memory or MEMORY)
