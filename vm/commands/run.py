# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm run`: from the kernels that were named to the exit status."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from tests.utils import cgroups
from vm import paths
from vm.backend.base import Backend
from vm.backend.choose import choose
from vm.commands import coverage
from vm.errors import Exit, Problem
from vm.kernel.image import Kernel
from vm.kernel.source import Building
from vm.report import matrix
from vm.report.conclude import Result, conclude
from vm.run.boot import Boots
from vm.run.plan import Options
from vm.run.pytest_words import Words
from vm.run.run import Run
from vm.run.scheduler import Scheduler
from vm.terminal import Screen, complain


@dataclass(frozen=True)
class Request:
    """The kernels of a run, as the command line names them."""

    #: Empty for the default one.
    kernels: tuple[str, ...]
    backend: str = "auto"
    #: Build trees first, and with the debugging options.
    build: bool = False
    debug: bool = False
    #: The user's fragments of a `.config`.
    fragments: tuple[Path, ...] = ()
    #: Runs on each kernel.
    repeat: int = 1
    #: What to tell of the lines that run.
    coverage: coverage.Wish | None = None

    @property
    def runs(self) -> dict[str, str]:
        """A name for each run, and the kernel it is on."""
        if self.repeat == 1:
            return {kernel: kernel for kernel in self.kernels}
        return {
            f"{kernel or 'default'} #{number}": kernel
            for kernel in self.kernels
            for number in range(1, self.repeat + 1)
        }

    def building(self, log: Path, dry_run: bool = False) -> Building:
        """What is to be built of each."""
        counted = self.coverage.files if self.coverage is not None else ()
        return Building(log, self.debug, self.fragments, dry_run, counted)


def launch(request: Request, options: Options) -> Exit:
    """Run the cases on every kernel of *request*; the exit status of the worst."""
    if options.dry_run:
        return _dry_run(request, options)
    folder = options.output or paths.new_run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        kernels = _Kernels(request, stack)
        if len(request.runs) == 1:
            return _one(kernels, options, folder)
        return _several(kernels, options, folder)


class _Kernels:
    """The kernels of a request, each found, built and held once."""

    def __init__(self, request: Request, stack: ExitStack) -> None:
        self.request = request
        self._stack = stack
        self._found: dict[str, tuple[Kernel, Backend]] = {}

    def run(self, name: str, options: Options, folder: Path) -> Run:
        """Return the run of this name. Raises Problem when there can be none."""
        begin = time.monotonic()
        text, building = self.request.runs[name], None
        if self.request.build:
            folder.mkdir(parents=True, exist_ok=True)
            building = self.request.building(folder / "build.log")
        if text not in self._found:
            self._found[text] = choose(
                text, self.request.backend, building, self._stack, options.machine
            )
        if building is not None:
            begin = time.monotonic()  # how long that took has been said
        return Run(*self._found[text], options, folder, begin)


def _scheduler(runs: list[Run], options: Options, screen: Screen) -> Scheduler[Result]:
    return Scheduler(runs, options, screen, lambda run: conclude(run, screen, len(runs) == 1))


def _warn_of_memory(runs: Sequence[Run], options: Options) -> None:
    """Say so where the guests that run at the same time may take more memory than there is."""
    each = sorted((run.backend.memory(options.machine) for run in runs), reverse=True)
    needed = sum(each[: options.jobs]) * options.guests
    free = cgroups.memory() >> 20
    if needed > free:
        complain(
            f"the guests have {needed} MiB of memory together, and {free} MiB are left here\n"
            "hint: fewer --guests or --jobs, or less --memory"
        )


def _one(kernels: _Kernels, options: Options, folder: Path) -> Exit:
    (name,) = kernels.request.runs
    run = kernels.run(name, options, folder)
    _warn_of_memory([run], options)
    scheduler = _scheduler([run], options, Screen())
    scheduler.work()
    if run in scheduler.problems:
        raise scheduler.problems[run]
    result = scheduler.results[run]
    if result.error is not None:
        raise result.error
    listed = Words.of(options.pytest).has("co", "collect-only")
    if result.verdict.status is Exit.NOTHING and not result.verdict.cases and not listed:
        # Whatever the kernel: under --build this ends a bisection.
        complain("no case was chosen\nhint: look at the words after --; -- --co lists the cases")
        return Exit.USAGE if kernels.request.build else Exit.NOTHING
    if kernels.request.coverage is None or result.verdict.status is Exit.INTERRUPTED:
        return result.verdict.status
    told = coverage.conclude(kernels.request.coverage, run, options.verbose)
    return result.verdict.status or told


def _several(kernels: _Kernels, options: Options, folder: Path) -> Exit:
    names = list(kernels.request.runs)
    runs: dict[str, Run] = {}
    columns: dict[str, matrix.Column] = {name: matrix.Column(name) for name in names}
    for name, sub in zip(names, matrix.folder_names(names), strict=True):
        try:
            runs[name] = kernels.run(name, options, folder / sub)
        except Problem as problem:
            columns[name] = _column(name, None, problem)
    _warn_of_memory(list(runs.values()), options)
    screen = Screen()
    scheduler = _scheduler(list(runs.values()), options, screen)
    try:
        scheduler.work()
    finally:
        for name, run in runs.items():
            columns[name] = _column(name, scheduler.results.get(run), scheduler.problems.get(run))
        found = list(columns.values())
        screen.line()
        for line in matrix.table(found, options.verbose):
            screen.line(line)
        matrix.write(folder, found)
        screen.line(f"artefacts: {folder}")
    errors = (result.error for result in scheduler.results.values())
    if error := next((error for error in errors if error is not None), None):
        raise error
    return matrix.status(found)


def _column(name: str, result: Result | None, problem: Problem | None) -> matrix.Column:
    if problem is None:
        return matrix.Column(name, result)
    complain(str(problem) if name in str(problem) else f"{name}: {problem}")
    return matrix.Column(name, None, str(problem).partition("\n")[0], problem.status)


def _dry_run(request: Request, options: Options) -> Exit:
    """Print the commands; with --output the images are made there, so that they work."""
    several = len(request.kernels) > 1
    with ExitStack() as stack:
        for name, sub in zip(request.kernels, matrix.folder_names(request.kernels), strict=True):
            building = request.building(Path("build.log"), dry_run=True) if request.build else None
            kernel, backend = choose(
                name, request.backend, building, stack, options.machine, trial=False
            )
            boots = Boots(kernel, backend, options)
            folder = options.output or Path("OUTPUT")
            folder = folder / sub if several else folder
            if several:
                print(f"# {name}")
            image = folder / "initramfs.cpio"
            if options.output is not None:
                folder.mkdir(parents=True, exist_ok=True)
                boots.prepare(folder)
                image = boots.image(boots.job())
            for number in range(1, options.guests + 1):
                share = f"{number}/{options.guests}"
                print(boots.printable(image, replace(options.machine, share=share, slot=number)))
    return Exit.OK
