# SPDX-License-Identifier: GPL-2.0-only
"""From what a guest reported and how it ended to one sentence and one exit status."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.utils.report import hints
from tests.utils.report.case import Case
from vm.errors import Exit
from vm.guest.protocol import Kind
from vm.run import console
from vm.run.guest import Ending, Stop
from vm.run.stream import Records

#: Outcomes of a case that has put its question to the kernel, and had a fair answer.
_TESTED = frozenset(["passed", "xfailed", "xpassed"])
#: What the kernel says when it has too little memory to come up.
_STARVED = re.compile("memory|allocate")
#: pytest's exit statuses.
_PYTEST_USAGE, _PYTEST_NOTHING = 4, 5


@dataclass(frozen=True)
class Verdict:
    """What the run comes to."""

    status: Exit
    #: The sentence after "Linux ..., backend: ".
    text: str
    #: All cases, those that a lost run kept from ending included.
    cases: list[Case]
    #: Why the run did not come to its end, empty when it did.
    lost: str = ""
    #: Console lines that report a fault of the kernel, those excepted that a case tells of.
    splats: list[str] = field(default_factory=list)
    #: Why pytest itself ended before it had run every case, empty when it did not.
    stopped: str = ""
    #: What the sentence has after the counts of a guest that was lost, empty for others.
    loss: str = ""

    @property
    def incomplete(self) -> str:
        """Why results are missing or made up, empty when none is."""
        return self.lost or self.stopped


def counts(cases: Sequence[Case]) -> str:
    """ "3 passed, 1 skipped", in pytest's words: a timeout is an error."""
    reached = [case for case in cases if not case.unreached]
    found = Counter("error" if case.outcome == "timeout" else case.outcome for case in reached)
    order = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")
    plural = "errors" if found["error"] > 1 else "error"
    words = [
        f"{found[name]} {plural if name == 'error' else name}" for name in order if found[name]
    ]
    if missing := len(cases) - len(reached):
        words.append(f"{missing} not run")
    return ", ".join(words) or "no case ran"


def _unfinished(
    records: Records, why: str, goes_on: bool = False, fixed_by: Sequence[object] = ()
) -> list[Case]:
    """The results, with the cases that a lost run did not end as errors; those that had not begun
    are left out where another guest *goes on* with them.

    :param fixed_by: the fixes that a kernel which is lost in the running case may lack.
    """
    cases = records.cases
    known = set(records.results)
    if records.running is not None and records.running not in known:
        outcome = "timeout" if why.startswith("run limit") else "error"
        cases.append(
            Case(
                records.running,
                outcome,
                f"{why} while this case ran",
                text=why,
                sections=hints.sections(records.running, fixed_by),
                markers=records.markers,
            )
        )
        known.add(records.running)
    if goes_on:
        return cases
    return cases + [
        Case(name, "error", f"did not run: {why} before it", unreached=True)
        for name in records.collected
        if name not in known
    ]


def judge(records: Records, ending: Ending, log: Sequence[str], goes_on: bool = False) -> Verdict:
    """The verdict; *log* are the lines of the console, and *goes_on* is whether another guest has
    the cases that this one did not come to."""
    return replace(_judge(records, ending, log, goes_on), stopped=records.stopped)


def _judge(records: Records, ending: Ending, log: Sequence[str], goes_on: bool) -> Verdict:
    splats = _untold(console.splats(log), records.cases)
    if ending.stop is Stop.INTERRUPTED:
        where = f" in {records.running}" if records.running else ""
        text = f"interrupted{where}: {counts(records.cases)} before"
        return Verdict(Exit.INTERRUPTED, text, records.cases, f"interrupted{where}", splats)
    if Kind.HELLO not in records.first:
        return _not_booted(ending, log, splats)
    if records.status is None:
        return _lost(records, ending, log, splats, goes_on)
    cases = records.cases
    text = counts(cases)
    if records.status == _PYTEST_USAGE:
        return Verdict(Exit.USAGE, "pytest rejected its arguments", cases)
    if splats:
        return Verdict(Exit.FAILED, f"{text}, and the kernel complained", cases, splats=splats)
    if any(case.bad for case in cases):
        return Verdict(Exit.FAILED, text, cases)
    if records.status == _PYTEST_NOTHING or (
        records.status == 0 and not any(case.outcome in _TESTED for case in cases)
    ):
        return Verdict(Exit.NOTHING, _nothing(cases), cases)
    if records.status != 0:
        return Verdict(Exit.FAILED, f"pytest exited with status {records.status}: {text}", cases)
    if records.lost:
        why = f"{records.lost} messages of the guest were lost"
        return Verdict(Exit.FAILED, f"{text}, but {why}", _unfinished(records, why), why)
    return Verdict(Exit.OK, text, cases)


def _untold(splats: Sequence[str], cases: Sequence[Case]) -> list[str]:
    """The lines of *splats* that no case was failed for."""
    told = Counter(message for case in cases for message in case.complaints)
    left = []
    for line in splats:
        message = console.message(line)
        if told[message]:
            told[message] -= 1
        else:
            left.append(line)
    return left


#: Of several guests, or kernels, the first of these that one ended with is the whole's. What says
#: something against a kernel comes before what says nothing of it; a kernel that lacks the feature
#: takes nothing from those that have it.
_ORDER = (
    *(Exit.INTERRUPTED, Exit.USAGE, Exit.FAILED, Exit.RUN_LIMIT, Exit.NOT_BOOTED, Exit.HOST),
    *(Exit.OK, Exit.NOTHING),
)


def worst(statuses: Iterable[Exit]) -> Exit:
    """What several come to."""
    return min(statuses, key=_ORDER.index)


def combine(verdicts: Sequence[Verdict], places: Mapping[str, int] | None = None) -> Verdict:
    """The verdict over guests that shared the cases out among them; *places* tells the order of
    the cases."""
    return _accounted(verdicts[0] if len(verdicts) == 1 else _merged(verdicts, places or {}))


def _merged(verdicts: Sequence[Verdict], places: Mapping[str, int]) -> Verdict:
    status = worst(verdict.status for verdict in verdicts)
    unique = {case.id: case for verdict in verdicts for case in verdict.cases}
    cases = sorted(unique.values(), key=lambda case: places.get(case.id, -1))
    # What a guest has to say beyond its own counts.
    loud = [v for v in verdicts if v.status is status and v.text != counts(v.cases)]
    text = counts(cases)
    loss = next((verdict.loss for verdict in loud if verdict.loss), "")
    if status is Exit.NOTHING:
        text = _nothing(cases)
    elif loss:
        text = f"{text}; {loss}"
    elif status is not Exit.OK and loud:
        text = f"{loud[0].text} (all guests: {text})" if cases else loud[0].text
    lost = next((verdict.lost for verdict in verdicts if verdict.lost), "")
    stopped = next((verdict.stopped for verdict in verdicts if verdict.stopped), "")
    splats = [line for verdict in verdicts for line in verdict.splats]
    return Verdict(status, text, cases, lost, splats, stopped)


def _accounted(verdict: Verdict) -> Verdict:
    """*verdict*, with one more case for what went wrong when none of its own says so.

    Many read nothing but the cases of a report, and must not take the run for a good one.
    """
    if verdict.status in (Exit.OK, Exit.NOTHING) or any(case.bad for case in verdict.cases):
        return verdict
    run = Case("run", "error", verdict.text, text="\n".join(verdict.splats))
    return replace(verdict, cases=[*verdict.cases, run])


def _nothing(cases: Sequence[Case]) -> str:
    reasons = Counter(case.reason for case in cases if case.reason)
    most = f" ({reasons.most_common(1)[0][0]})" if reasons else ""
    return f"nothing was tested: {counts(cases)}{most}"


def _last_words(ending: Ending, log: Sequence[str]) -> str:
    words = [line.strip() for line in log if line.strip()] or ending.stderr.splitlines()[-1:]
    return f"; last line: {words[-1]}" if words else ""


def _not_booted(ending: Ending, log: Sequence[str], splats: list[str]) -> Verdict:
    if ending.trouble:
        why = ending.trouble.partition("\n")[0]
        return Verdict(Exit.HOST, why, [], why, splats)
    killed = ending.killed_by
    if not ending.console_bytes and ending.stop is Stop.EXITED and ending.returncode and not killed:
        if ending.crashed_by:
            why = f"not booted: the kernel printed nothing and died of {ending.crashed_by}"
            return Verdict(Exit.NOT_BOOTED, why, [], why)
        words = (ending.stderr.splitlines() or [f"exit status {ending.returncode}"])[-1]
        return Verdict(Exit.HOST, f"the guest could not be started: {words}", [], words)
    panic = console.panicked(log)
    if not panic and killed:
        why = f"the guest was killed from outside ({killed})"
        return Verdict(Exit.HOST, why, [], why, splats)
    if said := console.said_by_init(log):
        why = said
    elif panic:
        why = f"{panic}; give it more --memory" if _STARVED.search(panic) else panic
    elif not ending.console_bytes:
        why = (
            f"the kernel printed nothing ({ending.stop.value}): it needs SERIAL_8250_CONSOLE,"
            " BLK_DEV_INITRD and enough --memory"
        )
    else:
        why = f"{ending.stop.value} before the guest's init answered{_last_words(ending, log)}"
    return Verdict(Exit.NOT_BOOTED, f"not booted: {why}", [], why, splats)


def _lost(
    records: Records, ending: Ending, log: Sequence[str], splats: list[str], goes_on: bool
) -> Verdict:
    status, why = Exit.FAILED, console.panicked(log)
    if ending.stop is Stop.RUN_LIMIT:
        status, why = Exit.FAILED if splats else Exit.RUN_LIMIT, "run limit hit"
    elif ending.trouble:
        status, why = Exit.HOST, ending.trouble.partition("\n")[0]
    elif not why and ending.killed_by:
        status, why = Exit.HOST, f"the guest was killed from outside ({ending.killed_by})"
    elif not why:
        why = "the guest ended without a word"
    where = f" in {records.running}" if records.running else ""
    markers = {} if status is Exit.HOST else records.markers
    cases = _unfinished(records, why, goes_on, markers.get("fixed_by", ()))
    fixes = hints.fixes(markers.get("fixed_by", ())) if records.running else []
    lacking = f", lacking {' and '.join(fixes)}" if fixes else ""
    loss = f"{why}{where}{lacking}"
    # Where another goes on, what is missing are the words of one case; and it says why.
    lost = "" if goes_on else why + where
    return Verdict(status, f"{counts(cases)}; {loss}", cases, lost, splats, loss=loss)
