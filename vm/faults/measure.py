# SPDX-License-Identifier: GPL-2.0-only
"""Boots a kernel with one fault after the other, a few side by side, and sees what notices them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from vm.backend.uml import Uml
from vm.errors import Exit, Problem
from vm.faults.catalogue import MECHANICAL, Fault
from vm.faults.copy import said
from vm.faults.results import Baseline, Result
from vm.guest.protocol import Kind
from vm.kernel.image import Kernel
from vm.report.verdict import Verdict, judge
from vm.run.boot import Boots
from vm.run.guest import Guest, Limits, drive
from vm.run.plan import Options
from vm.run.run import Numbers

#: Seconds: until a case is ended that does not end, and a guest in which nothing happens: a fault
#: makes some wait for what never comes. A case takes a few hundredths of one.
_CASE, _STALL = 20, 45.0
LIMITS = Limits(boot=60.0, run=900.0)
#: A fault that is noticed is followed for so many times as long as the cases take without one.
_FOLLOWED = 2.0
#: Failures after which no more are looked for, where a fault was nobody's idea.
_ENOUGH = 25
#: How often a guest is started that the host's trouble ends.
_TRIES = 3
#: Faults that the host's trouble may cost; then it is no accident.
_TROUBLES = 5
_WORDS = ("--require", f"--timeout={_CASE}")


@dataclass
class Trial:
    """A fault that is being measured."""

    fault: Fault
    kernel: Kernel
    #: Of its switch, 0 for none.
    number: int
    #: Whether all cases are asked.
    whole: bool
    seconds: float = 0.0
    tries: int = 0
    guest: Guest | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    slot: int = 0
    #: How far it was, and since when.
    mark: tuple[int, str | None] = (0, None)
    since: float = 0.0
    #: The launcher's reason to end the guest.
    killed: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """pytest's arguments."""
        enough = (f"--maxfail={_ENOUGH}",) if self.fault.kind == MECHANICAL else ()
        return (*_WORDS, *enough, *(() if self.whole else self.fault.selection))


class Campaign:
    """Faults to measure, one after the other."""

    def __init__(
        self,
        trials: Iterable[Trial],
        jobs: int,
        record: Callable[[Trial, Result], None],
        tick: Callable[[list[Trial]], None] = lambda _: None,
        baseline: Baseline | None = None,
    ) -> None:
        """*record* is given each result as it comes, *tick* what is going on."""
        self._waiting = iter(trials)
        self._jobs, self._record, self._tick_of = jobs, record, tick
        self._excluded = set(baseline.failed) if baseline else set[str]()
        self._usual = baseline.seconds if baseline else 0.0
        self._numbers = Numbers()
        self._running: list[Trial] = []
        #: What could not be measured: id -> the host's trouble.
        self.troubles: dict[str, str] = {}

    def work(self) -> None:
        """Measure them all. Guests that run end however this does.

        :raises Problem: a kernel cannot be built, or the host cannot run guests.
        """
        with ExitStack() as self._stack:
            first = [guest for _ in range(self._jobs) for guest in self._next()]
            drive(first, LIMITS, self._ended, self._tick)

    def _next(self) -> list[Guest]:
        trial = next(self._waiting, None)
        return [] if trial is None else [self._start(trial)]

    def _start(self, trial: Trial) -> Guest:
        trial.tries += 1
        trial.killed, trial.mark, trial.since = "", (0, None), time.monotonic()
        trial.stack = self._stack.enter_context(ExitStack())
        folder = Path(trial.stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-")))
        trial.slot = self._numbers.take()
        options = Options(pytest=trial.words)
        append = (f"planted={trial.number}",) if trial.number else ()
        machine = replace(options.machine, append=append, slot=trial.slot)
        boots = Boots(trial.kernel, Uml(), options)
        boots.prepare(folder)
        image = boots.image(boots.job())
        trial.guest = boots.start(
            image, machine, trial.stack, folder / "console.log", lambda _: None
        )
        self._running.append(trial)
        return trial.guest

    def _ended(self, guest: Guest) -> list[Guest]:
        trial = next(one for one in self._running if one.guest is guest)
        self._running.remove(trial)
        self._numbers.give(trial.slot)
        trial.seconds += guest.ending.times["end"] - guest.ending.times["start"]
        log = guest.log.lines()
        verdict = judge(guest.records, guest.ending, log)
        trial.stack.close()
        if verdict.status is Exit.HOST and not trial.killed:
            if trial.tries < _TRIES:
                return [self._start(trial)]
            self.troubles[trial.fault.id] = guest.ending.trouble or verdict.text
            if len(self.troubles) == _TROUBLES:
                raise Problem(self.troubles[trial.fault.id])
            return self._next()
        if verdict.status is Exit.USAGE:
            raise Problem(f"{trial.fault.id}: {verdict.text}")
        result = self._judged(trial, guest, verdict)
        taken = any(said(trial.number) in line for line in log)
        if trial.number and not taken and result.how != "no boot":
            raise Problem(f"{trial.fault.id}: the kernel did not take planted={trial.number}")
        if not (result.noticed or trial.whole):
            trial.whole, trial.tries = True, 0
            return [self._start(trial)]
        self._record(trial, result)
        return self._next()

    def _judged(self, trial: Trial, guest: Guest, verdict: Verdict) -> Result:
        """What *verdict* says of the fault."""
        bad = [
            case
            for case in verdict.cases
            if case.bad and not case.unreached and case.id not in self._excluded
        ]
        how = line = ""
        if trial.killed == "hang":
            how, line = "hang", f"nothing happens any more in {trial.mark[1] or 'the guest'}"
        elif verdict.status is Exit.NOT_BOOTED:
            how, line = "no boot", verdict.text
        elif trial.killed:
            how = "cases"
        elif verdict.status is Exit.RUN_LIMIT:
            how, line = "hang", verdict.text
        elif verdict.lost:
            how, line = "crash", verdict.lost
        elif bad:
            how = "cases"
        elif verdict.splats:
            how, line = "complaint", verdict.splats[0]
        if how == "cases":
            bad = [case for case in bad if case.id in guest.records.results]
            line = bad[0].headline
        return Result(
            trial.fault.id,
            trial.fault.digest,
            how,
            tuple(case.id for case in bad),
            " ".join(line.split()),
            trial.whole,
            len(guest.records.results),
            round(trial.seconds, 1),
        )

    def _tick(self) -> None:
        now = time.monotonic()
        for trial in self._running:
            guest = trial.guest
            assert guest is not None
            records = guest.records
            if Kind.HELLO not in records.first or Kind.END in records.first or trial.killed:
                continue
            mark = (len(records.results), records.running)
            if mark != trial.mark:
                trial.mark, trial.since = mark, now
            elif now - trial.since > _STALL:
                trial.killed = "hang"
                guest.kill()
                continue
            long = now - records.first[Kind.HELLO] > _FOLLOWED * self._usual + _STALL
            if self._usual and long and self._noticed(guest):
                trial.killed = "long enough"
                guest.kill()
        self._tick_of(self._running)

    def _noticed(self, guest: Guest) -> bool:
        return any(case.bad and case.id not in self._excluded for case in guest.records.cases)


def baseline(kernel: Kernel, jobs: int, tick: Callable[[list[Trial]], None]) -> Baseline:
    """Return what *kernel* does without a fault, in as many guests at once as will be later.

    :raises Problem: it does not run the cases.
    """
    trials = [Trial(Fault(f"none {n}", "", "", ()), kernel, 0, True) for n in range(jobs)]
    seconds, passed, failed, release = [0.0], set[str](), set[str](), ""
    order: dict[str, None] = {}

    class Sound(Campaign):
        """Guests without a fault."""

        def _judged(self, trial: Trial, guest: Guest, verdict: Verdict) -> Result:
            nonlocal release
            if verdict.status not in (Exit.OK, Exit.FAILED) or verdict.lost or verdict.splats:
                raise Problem(
                    f"the kernel without a fault does not run the cases: {verdict.text}\n"
                    "hint: python3 -m vm run --kernel it shows what is wrong"
                )
            release = str(guest.records.environment.get("release", release))
            seconds.append(trial.seconds)
            for case in guest.records.cases:
                order[case.id] = None
                if case.bad:
                    failed.add(case.id)
                elif case.outcome == "passed":  # an open finding's, xfailed, cannot fail
                    passed.add(case.id)
            return super()._judged(trial, guest, verdict)

    Sound(trials, jobs, lambda *_: None, tick).work()
    good = [name for name in order if name in passed - failed]
    return Baseline(release, tuple(good), tuple(n for n in order if n in failed), max(seconds))


def progress(done: int, total: int, unnoticed: int, left: float, running: list[Trial]) -> str:
    """Return how far it is, in a line; *left* is the estimate of the seconds that are left."""
    names = ", ".join(
        f"{trial.fault.id} ({len(trial.guest.records.results)} cases)"
        for trial in running
        if trial.guest is not None
    )
    return f"{done}/{total} faults, {unnoticed} unnoticed; about {minutes(left)} left; {names}"


def minutes(seconds: float) -> str:
    """Return a span of time for people."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
