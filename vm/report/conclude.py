# SPDX-License-Identifier: GPL-2.0-only
"""Ends a run whose guests have ended: the verdict, the artefacts, and what is printed of them."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.utils.report import digest_text
from tests.utils.report.digest import digest
from tests.utils.report.known import known
from tests.utils.report.waivers import unneeded
from vm import paths
from vm.kernel.image import Kernel
from vm.report import failures
from vm.report.summary import Summary, described, phases
from vm.report.verdict import Verdict, combine, judge
from vm.run.console import top_frames
from vm.run.guest import Stop
from vm.run.run import GuestSlot, Run
from vm.run.stream import Records
from vm.terminal import Screen

#: Lines of the console that are shown at most, and of a crash whose stack is told after them.
_TAIL, _CRASH = 20, 5


@dataclass(frozen=True)
class Result:
    """A run that has ended."""

    verdict: Verdict
    summary: Summary
    folder: Path
    #: Why the artefacts are not whole, None when they are.
    error: OSError | None = None


def conclude(run: Run, screen: Screen, alone: bool) -> Result:
    """Judge *run*, write its artefacts and print its last lines; its guests have ended.

    :param alone: whether it is the only run, whose guests are reported on one by one.
    """
    end = time.monotonic()
    run.close()
    records = [slot.guest.records for slot in run.slots]
    logs = [slot.guest.log.lines() for slot in run.slots]
    verdicts = [
        judge(slot.guest.records, slot.guest.ending, lines, slot.goes_on)
        for slot, lines in zip(run.slots, logs, strict=True)
    ]
    verdict = combine(verdicts, {n: at for one in records for n, at in one.places.items()})
    summary = _summary(run, verdict, logs, end)
    errors = [slot.guest.log.error for slot in run.slots]
    error = next((e for e in (_write(run.folder, verdict, summary), *errors) if e), None)
    if alone:
        verbose = run.options.verbose
        for number, slot in enumerate(run.slots):
            name = f"guest {number + 1} of {len(run.slots)}" if len(run.slots) > 1 else ""
            _print_guest(screen, name, slot, verdicts[number], logs[number], verbose)
            _print_trace(screen, run.kernel, logs[number], slot.guest.log.path)
        _print_waivers(screen, records)
        _print_digest(screen, verdict, summary, verbose)
    result = Result(verdict, summary, run.folder, error)
    _print_verdict(screen, result, run.kernel, run.options.verbose)
    return result


def _summary(run: Run, verdict: Verdict, logs: Sequence[list[str]], end: float) -> Summary:
    first = run.slots[0].guest
    environments = (slot.guest.records.environment for slot in run.slots)
    environment = next((one for one in environments if one), {})
    there = known(run.options.system.checkout if run.options.system else paths.ROOT)
    release = str(environment.get("release", ""))
    return Summary(
        verdict=verdict.text,
        status=int(verdict.status),
        incomplete=verdict.incomplete,
        started=run.started.isoformat("T", "seconds"),
        kernel=run.kernel.origin,
        backend=run.where,
        guests=run.options.guests,
        seconds=round(end - run.begin, 2),
        phases=phases(run.begin, first.records, first.ending),
        environment=environment,
        kernel_complaints=verdict.splats,
        top_frames=next((frames for lines in logs if (frames := top_frames(lines))), []),
        digest=digest(verdict.cases, there.rules, there.fixes, release),
    )


def _write(folder: Path, verdict: Verdict, summary: Summary) -> OSError | None:
    """Write the artefacts; return the error that kept us from it."""
    try:
        summary.write(folder, verdict.cases)
    except OSError as error:
        error.filename = error.filename or str(folder)
        return error
    return None


def _print_guest(
    screen: Screen, name: str, slot: GuestSlot, verdict: Verdict, log: Sequence[str], verbose: bool
) -> None:
    """Print pytest's last part, the kernel's complaints, the end of a dead guest's console."""
    left = slot.transcript.left
    if not verbose:
        left = failures.without_failures(left).strip("\n")
    if left:
        screen.line(f"{f' {name} '.center(80, '-')}\n{left}" if name else left)
    died = slot.guest.records.status is None
    if died and verbose:
        # pytest would have shown them at its end.
        for case in verdict.cases:
            if case.story and case.bad:
                screen.line(f"\n{f' {case.id} '.center(80, '_')}\n{case.story}")
    path = slot.guest.log.path
    most = _CRASH if verdict.splats and not verbose else _TAIL
    if verdict.splats and not died:
        screen.line(f"\nthe kernel complained ({path}):")
        _quote(screen, verdict.splats[:most])
    elif died and slot.guest.ending.stop is not Stop.INTERRUPTED and log:
        first = log.index(verdict.splats[0]) if verdict.splats else max(0, len(log) - _TAIL)
        screen.line(f"\nconsole ({path}):")
        _quote(screen, log[first : first + most])


def _quote(screen: Screen, lines: Sequence[str]) -> None:
    for line in lines[:_TAIL]:
        screen.line(f"  {line}")


def _print_trace(screen: Screen, kernel: Kernel, log: Sequence[str], path: Path) -> None:
    """Print where in the kernel it was, and how to have the lines of its source."""
    frames = top_frames(log)
    if frames:
        screen.line("\nthe kernel was in " + "\n     called from ".join(frames))
        if kernel.source is not None and kernel.home is not None:
            script = kernel.source / "scripts/decode_stacktrace.sh"
            words = shlex.join([str(script), str(kernel.home / "vmlinux"), "auto"])
            screen.line(f"as lines of the source: {words} < {shlex.quote(str(path))}")


def _print_digest(screen: Screen, verdict: Verdict, summary: Summary, verbose: bool) -> None:
    """Print the cases that failed, and the run in rules and fixes, unless no case told of any."""
    if summary.digest.is_empty:
        return
    width = max(80, shutil.get_terminal_size((100, 24)).columns)
    screen.line()
    if not verbose:  # pytest's own words have been shown
        for line in failures.lines(verdict.cases, width):
            screen.line(line)
    for line in digest_text.lines(summary.digest, width, verbose):
        screen.line(line)


def _print_waivers(screen: Screen, records: Sequence[Records]) -> None:
    """Print which waivers no guest needed; with a single guest pytest has printed them."""
    if len(records) > 1 and all(one.status is not None for one in records):
        for line in unneeded([one.waivers for one in records]):
            screen.line(line)


def _print_verdict(screen: Screen, result: Result, kernel: Kernel, verbose: bool) -> None:
    """Print the last line."""
    summary = result.summary
    if verbose:
        screen.line(described(summary.phases))
    release = summary.release or kernel.release or "?"
    where = f"{'incomplete ' if result.error else ''}artefacts: {result.folder}"
    screen.line(
        f"Linux {release} ({kernel.origin}), {summary.backend}: {summary.verdict}"
        f" in {summary.seconds:.1f} s; {where}"
    )
