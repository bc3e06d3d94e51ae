# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm faults`: plants the catalogue's faults in a kernel, and sees what notices them."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vm import paths
from vm.errors import Exit, Problem
from vm.faults import catalogue, measure, page
from vm.faults.build import OPTIONS, Workshop
from vm.faults.catalogue import HAND, Fault, Operators
from vm.faults.measure import Campaign, Trial
from vm.faults.planted import Planted, Source, plant
from vm.faults.results import HOW, Result, Results, suite_digest
from vm.kernel import debian_source, tree
from vm.kernel.image import Kernel
from vm.run import plan
from vm.terminal import Screen, complain, say


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    #: A source tree, empty for the packaged one.
    kernel: str = ""
    #: Of ids, families and kinds; empty for all.
    patterns: tuple[str, ...] = ()
    #: Guests at a time, None for one per processor.
    jobs: int | None = None
    #: Where results and logs go; None for a folder of this kernel's in the cache.
    output: Path | None = None
    #: Where the page is written, beside the one in the folder.
    page: Path | None = None
    fragments: tuple[Path, ...] = ()
    #: Forget what was measured before.
    fresh: bool = False
    #: Only print the catalogue.
    listing: bool = False
    #: Only write the page of what was measured.
    report: bool = False


def faults(request: Request) -> Exit:
    """Measure the faults that *request* names; the exit status."""
    hand = catalogue.load()
    known = catalogue.operators()
    folder, fixed = _source(request.kernel)
    source = Source(folder)
    planted = plant(source, hand, known)
    _name_unknown(known, planted)
    every = [*hand, *(fault for fault in planted.numbers.values() if fault.kind != HAND)]
    chosen = catalogue.chosen(every, request.patterns)
    if request.listing:
        for fault in chosen:
            print(f"{fault.id}  {fault.family}  {fault.sees or fault.edits[0].function}")
        return Exit.OK
    name = f"{folder.name}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    output = request.output or paths.cache() / "evidence" / name
    output.mkdir(parents=True, exist_ok=True)
    file = output / "results.jsonl"
    if request.fresh:
        file.unlink(missing_ok=True)
    made_with = f"{_digest(source, planted, request)}-{suite_digest()}"
    results = Results(file, made_with)
    run = _Run(request, planted, results, output)
    if not request.report:
        run.measure(Workshop(folder, fixed, output / "build.log", request.fragments), chosen)
    elif results.baseline is None:
        raise Problem(f"{file}: nothing was measured\nhint: leave out --report")
    every = [fault for fault in every if fault.id not in planted.dropped]
    written = page.write(output, request.page, every, planted.dropped, results)
    for path in written:
        say(f"written: {path}")
    silent = [fault for fault in every if _is_open(fault, results.of(fault))]
    for fault in silent:
        print(f"unnoticed, and no reason is known: {fault.id}")
    for fault_id, trouble in run.troubles.items():
        complain(f"{fault_id} could not be measured: {trouble}")
    if run.troubles:
        return Exit.HOST
    return Exit.FAILED if silent else Exit.OK


def _name_unknown(known: Operators, planted: Planted) -> None:
    """Tell which marks are of no mechanical fault that this source has."""
    there = {fault.id for fault in planted.numbers.values()} | planted.dropped.keys()
    for name in sorted((known.equivalent.keys() | known.silent.keys()) - there):
        say(f"operators.toml: {name}: no operator makes this of this source")


def _is_open(fault: Fault, result: Result | None) -> bool:
    """Whether a fault written by hand was not noticed, for no known reason."""
    reason = fault.silent or fault.equivalent
    return result is not None and not result.noticed and fault.kind == HAND and not reason


def _source(text: str) -> tuple[Path, bool]:
    """The source that *text* names, and whether it never changes."""
    if not text:
        return debian_source.get(), True
    found = tree.find(Path(text).expanduser(), "um")
    if found.source is None:
        raise Problem(f"{text}: the kernel's source is not to be found", Exit.USAGE)
    return found.source, False


def _digest(source: Source, planted: Planted, request: Request) -> str:
    """What changes when the kernel does, but for its faults."""
    files = {place.edit.file for places in planted.places.values() for place in places}
    options = [path.read_text() for path in (OPTIONS, *request.fragments)]
    return hashlib.sha256(repr((source.digest(files), options)).encode()).hexdigest()[:12]


class _Run:
    """One start: what is left of the faults is measured."""

    def __init__(self, request: Request, planted: Planted, results: Results, output: Path) -> None:
        self._request, self._planted, self._results = request, planted, results
        self._output = output
        self._screen = Screen()
        self._jobs = request.jobs or plan.default_guests(())
        self._total = self._done = self._unnoticed = 0
        #: What could not be measured: id -> the host's trouble.
        self.troubles: dict[str, str] = {}

    def measure(self, workshop: Workshop, chosen: Sequence[Fault]) -> None:
        """Measure what was not yet; print a line for each as it comes."""
        left = [
            fault for fault in chosen if self._results.of(fault) is None and not fault.equivalent
        ]
        say(f"{len(chosen)} faults, {len(left)} to be measured; results: {self._results.path}")
        if not left:
            return
        with workshop.held():
            kernel = workshop.kernel(self._planted)
            own = {
                fault.id: workshop.alone(self._planted, fault, self._output / "kernels" / fault.id)
                for fault in left
                if fault.alone
            }
            if own:  # they were built in the same folder
                kernel = workshop.kernel(self._planted)
        with ExitStack() as stack:
            stack.enter_context(paths.using(workshop.objects))
            stack.callback(self._screen.close)
            if self._results.baseline is None:
                say("without a fault, all cases first ...")
                self._results.add(measure.baseline(kernel, self._jobs, self._tick_baseline))
            usual = self._results.baseline
            assert usual is not None
            say(
                f"without a fault: {len(usual.passed)} cases pass, {len(usual.failed)} do not,"
                f" in {usual.seconds:.0f} s"
            )
            self._begin = time.monotonic()
            trials = list(self._trials(left, kernel, own))
            self._total = len(trials)
            campaign = Campaign(trials, self._jobs, self._record, self._tick, usual)
            campaign.work()
            self.troubles = campaign.troubles

    def _trials(
        self, left: Sequence[Fault], kernel: Kernel, own: Mapping[str, Kernel]
    ) -> Iterator[Trial]:
        numbers = {fault.id: number for number, fault in self._planted.numbers.items()}
        for fault in left:
            if fault.id in own:
                yield Trial(fault, own[fault.id], 0, not fault.selection)
            elif fault.id in numbers:
                yield Trial(fault, kernel, numbers[fault.id], not fault.selection)

    def _record(self, trial: Trial, result: Result) -> None:
        self._results.add(result)
        if trial.fault.alone:
            shutil.rmtree(self._output / "kernels" / trial.fault.id, ignore_errors=True)
        self._done += 1
        self._unnoticed += not result.noticed
        where = "all cases" if result.whole else " ".join(trial.fault.rules) or "its fix"
        what = f"{HOW[result.how]}, {len(result.cases)} of {where}" if result.how else "unnoticed"
        line = f": {result.line}" if result.line else ""
        left = f"{self._done}/{self._total}, about {measure.minutes(self._left)} left"
        self._screen.line(f"[{left}] {result.fault}: {what}{line}"[:200])

    @property
    def _left(self) -> float:
        """An estimate of the seconds that are left."""
        spent = time.monotonic() - self._begin
        return spent / self._done * (self._total - self._done) if self._done else 0.0

    def _tick(self, running: list[Trial]) -> None:
        if self._screen.due:
            self._screen.status(
                measure.progress(self._done, self._total, self._unnoticed, self._left, running)
            )

    def _tick_baseline(self, running: list[Trial]) -> None:
        if self._screen.due:
            self._screen.status(measure.progress(0, self._total, 0, 0.0, running))
