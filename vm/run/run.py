# SPDX-License-Identifier: GPL-2.0-only
"""One kernel's run: the guests that share its cases, from the image to the end of the last."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from vm.backend.base import Backend, Machine
from vm.errors import Problem
from vm.guest.protocol import Kind
from vm.kernel.image import Kernel
from vm.run.boot import Boots
from vm.run.guest import Guest, Stop
from vm.run.plan import Options
from vm.run.transcript import Transcript
from vm.terminal import Progress, Screen, complain

#: Guests that are started, at most, to go on with the cases of those that died.
_REPLACEMENTS = 5


@dataclass
class GuestSlot:
    """A guest, its machine, pytest's output in it, and the guest that replaced it."""

    guest: Guest
    machine: Machine
    transcript: Transcript
    #: The guest that was started for the remaining cases when this one died.
    successor: Guest | None = None

    @property
    def goes_on(self) -> bool:
        """Whether the replacement took over the remaining cases."""
        return self.successor is not None and Kind.COLLECTED in self.successor.records.first


class Numbers:
    """Numbers from 1 for the guests that run at the same time."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self) -> int:
        """Take the lowest that is free, and return it."""
        number = next(n for n in range(1, len(self._taken) + 2) if n not in self._taken)
        self._taken.add(number)
        return number

    def give(self, number: int) -> None:
        """Free *number* again."""
        self._taken.discard(number)


class Run:
    """The guests of one kernel."""

    def __init__(
        self, kernel: Kernel, backend: Backend, options: Options, folder: Path, begin: float
    ) -> None:
        """*begin* is when the work on this kernel began, by time.monotonic()."""
        self.kernel, self.backend, self.options, self.folder = kernel, backend, options, folder
        self.begin = begin
        self.started = datetime.now(UTC)
        self._boots = Boots(kernel, backend, options)
        self.where = self._boots.where
        _ = self._boots.runtime  # what is missing is told before the first kernel boots
        self._ready = time.monotonic()
        self.slots: list[GuestSlot] = []
        self._left = _REPLACEMENTS
        #: Troubles of the host's that the user has been told.
        self._told: set[str] = set()

    # --- guests ----------------------------------------------------------------------------------

    def start(self, stack: ExitStack, numbers: Numbers, show: Screen | None) -> list[Guest]:
        """Start the guests; they end when *stack* is left. *show* is for what pytest says."""
        self.begin += time.monotonic() - self._ready  # it may have waited for other kernels
        self.folder.mkdir(parents=True, exist_ok=True)
        self._stack = stack.enter_context(ExitStack())
        self._numbers, self._show = numbers, show
        scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-"))
        self._boots.prepare(Path(scratch))
        image = self._boots.image(self._boots.job())
        count = self.options.guests
        return [self._guest(image, f"{number}/{count}") for number in range(1, count + 1)]

    def _guest(self, image: Path, share: str) -> Guest:
        number = len(self.slots) + 1
        machine = replace(self.options.machine, share=share, slot=self._numbers.take())
        ending = "" if number == 1 else f"-{number}"
        # What pytest says after the cases is shown at the end, in brief.
        whole = 3 if self.options.verbose else 2
        parts = 0 if self._show is None else whole if self.options.guests == 1 else int(number == 1)
        transcript = Transcript(self.folder / f"pytest{ending}.log", self._shown, parts)
        self._stack.callback(transcript.close)
        console = self.folder / f"console{ending}.log"
        guest = self._boots.start(image, machine, self._stack, console, transcript.take)
        self.slots.append(GuestSlot(guest, machine, transcript))
        return guest

    def _shown(self, text: str) -> None:
        if self._show is not None:
            self._show.text(text)

    def ended(self, guest: Guest) -> list[Guest]:
        """Return the guest that goes on with what *guest*, which has ended, has left; none if it
        did not die."""
        slot = next(slot for slot in self.slots if slot.guest is guest)
        self._numbers.give(slot.machine.slot)
        records = guest.records
        begun = {*records.results, records.running}
        left = [name for name in records.collected if name not in begun]
        died = guest.ending.stop is Stop.EXITED and records.status is None
        if guest.ending.trouble:  # another would fare no better
            self._tell(guest.ending.trouble)
            return []
        failed, most = self.progress.bad + 1, self.options.most_failures
        if not (died and left and self._left) or 0 < most <= failed:
            return []
        self._left -= 1
        if self._show is not None:
            where = f"in {records.running}" if records.running else "between cases"
            self._show.line(
                f"\nguest {self.slots.index(slot) + 1} died {where};"
                f" guest {len(self.slots) + 1} goes on with {_cases(len(left))}"
            )
        try:
            image = self._boots.image(self._boots.job(left, failed))
            slot.successor = self._guest(image, slot.machine.share)
        except Problem as problem:
            complain(str(problem))
            return []
        return [slot.successor]

    def _tell(self, trouble: str) -> None:
        """Tell the user of a trouble of the host's, once."""
        if trouble not in self._told:
            self._told.add(trouble)
            complain(trouble)

    @property
    def done(self) -> bool:
        """Whether all guests have ended."""
        return all(slot.guest.done for slot in self.slots)

    @property
    def progress(self) -> Progress:
        """How far the guests are."""
        records = [slot.guest.records for slot in self.slots]
        cases = [case for one in records for case in one.results.values()]
        died = (slot.guest.records for slot in self.slots if slot.successor is not None)
        lost = sum(one.running is not None for one in died)
        waiting = any(Kind.COLLECTED not in one.first for one in records[: self.options.guests])
        total = len({name for one in records for name in one.collected})
        running = (slot.guest.records.running for slot in self.slots if not slot.guest.done)
        return Progress(
            len(cases) + lost,
            0 if waiting else total,
            sum(case.bad for case in cases) + lost,
            next((name for name in running if name), ""),
        )

    # --- the end ---------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Stop the guests that are still running."""
        for slot in self.slots:
            if not slot.guest.done:
                slot.guest.finish(Stop.INTERRUPTED)

    def close(self) -> None:
        """Let go of all that the guests, which have ended, were given."""
        self._stack.close()


def _cases(count: int) -> str:
    return "1 case" if count == 1 else f"{count} cases"
