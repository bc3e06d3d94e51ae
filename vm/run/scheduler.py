# SPDX-License-Identifier: GPL-2.0-only
"""Carries out runs, a few at a time, and shows how far they are."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from vm.errors import Interrupted, Problem
from vm.run.guest import Guest, drive
from vm.run.plan import Options
from vm.run.run import Result, Run, Slots
from vm.terminal import Screen


class Crew:
    """Several runs, `options.jobs` of them side by side."""

    def __init__(self, runs: Sequence[Run], options: Options, screen: Screen) -> None:
        self._runs = runs
        self._options = options
        self._screen = screen
        self._slots = Slots()
        self._waiting = iter(runs)
        self._running: list[Run] = []
        #: What those that were begun came to, and why others could not be.
        self.results: dict[Run, Result] = {}
        self.problems: dict[Run, Problem] = {}

    def work(self) -> None:
        """Carry them all out.

        Raises Interrupted, and OSError when a guest cannot be given what it needs: the disk is
        full, say. There are results then of those that were begun.
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
                    self._conclude(run)
                raise
            finally:
                self._screen.close()

    def _next(self) -> list[Guest]:
        """Begin the next run, if there is one."""
        run = next(self._waiting, None)
        if run is None:
            return []
        guests = f"{self._options.guests} guests of " if self._options.guests > 1 else ""
        self._screen.line(f"booting {guests}{run.kernel} in {run.backend.name} ...")
        self._running.append(run)
        try:
            screen = self._screen if len(self._runs) == 1 else None
            return run.start(self._stack, self._slots, screen)
        except Problem as problem:
            self._running.remove(run)
            run.interrupt()
            self.problems[run] = problem
            return self._next()

    def _ended(self, guest: Guest) -> list[Guest]:
        run = next(run for run in self._running if any(s.guest is guest for s in run.seats))
        if (more := run.ended(guest)) or not run.done:
            return more
        if len(self._runs) == 1:
            self._screen.close()
        self._conclude(run)
        return self._next()

    def _conclude(self, run: Run) -> None:
        self._running.remove(run)
        if run.seats:
            self.results[run] = run.conclude(self._screen)

    def _tick(self) -> None:
        if not self._screen.due:
            return
        if len(self._runs) > 1:
            states = [f"{run.kernel.release} {run.progress}" for run in self._running]
            done = len(self.results)
            self._screen.status(f"{done}/{len(self._runs)} kernels; {'; '.join(states)}")
        elif self._running:
            progress = self._running[0].progress
            where = f": {progress.current}" if progress.current else ""
            self._screen.status(f"{progress}{where}")
            if self._options.guests > 1:  # else pytest's own lines are seen
                self._screen.milestone(progress)
