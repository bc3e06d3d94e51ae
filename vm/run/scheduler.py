# SPDX-License-Identifier: GPL-2.0-only
"""Carries out runs, a few at a time, and shows how far they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Generic, TypeVar

from vm.errors import Interrupted, Problem
from vm.run.guest import Guest, drive
from vm.run.plan import Options
from vm.run.run import Numbers, Run
from vm.terminal import Screen

#: What a run is concluded with.
R = TypeVar("R")


class Scheduler(Generic[R]):
    """Several runs, `options.jobs` of them side by side."""

    def __init__(
        self,
        runs: Sequence[Run],
        options: Options,
        screen: Screen,
        conclude: Callable[[Run], R],
    ) -> None:
        """*conclude* makes a result of each run that was begun, once its guests have ended."""
        self._runs = runs
        self._options = options
        self._screen = screen
        self._conclude = conclude
        self._numbers = Numbers()
        self._waiting = iter(runs)
        self._running: list[Run] = []
        #: Of the runs that were begun; and why others could not be.
        self.results: dict[Run, R] = {}
        self.problems: dict[Run, Problem] = {}

    def work(self) -> None:
        """Carry them all out.

        :raises Interrupted: those that were begun are concluded.
        :raises OSError: likewise; a guest cannot be given what it needs: the disk is full, say.
        """
        with ExitStack() as stack:
            self._stack = stack
            try:
                first = [guest for _ in range(self._options.jobs) for guest in self._next()]
                drive(first, self._options.limits, self._ended, self._tick)
            except (Interrupted, OSError):
                self._screen.close()
                for run in list(self._running):
                    run.interrupt()
                    self._finish(run)
                raise
            finally:
                self._screen.close()

    def _next(self) -> list[Guest]:
        """Begin the next run, if there is one."""
        run = next(self._waiting, None)
        if run is None:
            return []
        guests = f"{self._options.guests} guests of " if self._options.guests > 1 else ""
        self._screen.note(f"booting {guests}{run.kernel} in {run.where} ...")
        self._running.append(run)
        try:
            screen = self._screen if len(self._runs) == 1 else None
            return run.start(self._stack, self._numbers, screen)
        except Problem as problem:
            self._running.remove(run)
            run.interrupt()
            self.problems[run] = problem
            return self._next()

    def _ended(self, guest: Guest) -> list[Guest]:
        run = next(run for run in self._running if any(slot.guest is guest for slot in run.slots))
        if (more := run.ended(guest)) or not run.done:
            return more
        if len(self._runs) == 1:
            self._screen.close()
        self._finish(run)
        return self._next()

    def _finish(self, run: Run) -> None:
        self._running.remove(run)
        if run.slots:
            self.results[run] = self._conclude(run)

    def _tick(self) -> None:
        if not self._screen.due:
            return
        if len(self._runs) > 1:
            states = [f"{run.kernel.release} {run.progress}" for run in self._running]
            self._screen.status(
                f"{len(self.results)}/{len(self._runs)} kernels; {'; '.join(states)}"
            )
        elif self._running:
            progress = self._running[0].progress
            where = f": {progress.current}" if progress.current else ""
            self._screen.status(f"{progress}{where}")
            if self._options.guests > 1:  # else pytest's own lines are seen
                self._screen.milestone(progress)
