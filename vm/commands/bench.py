# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm bench`: the benchmark on one kernel in one guest, or on two in turns."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.cli import asked_for, parsed
from bench.compare import WORDS, pairs_needed, report
from bench.compare import compare as compared_boots
from bench.methods import METHODS
from bench.results import Results, load
from vm import paths
from vm.backend.base import Backend
from vm.commands.arguments import BOOTS
from vm.errors import Exit, Problem
from vm.kernel.image import Kernel
from vm.report.verdict import judge
from vm.run.boot import Boots
from vm.run.guest import drive
from vm.run.plan import Options
from vm.terminal import say


def require(words: tuple[str, ...]) -> None:
    """Raise Problem where *words* for the benchmark name files, which would be the guest's."""
    for word in words:
        if word.partition("=")[0] in ("--json", "--plot", "--from"):
            raise Problem(
                f"bench: {word}: a file of the guest's, which would be gone with it\n"
                "hint: all numbers are in bench.json of the folder for results (--output DIR);"
                " python3 -m bench --from it --plot FILE plots them",
                Exit.USAGE,
            )


@dataclass(frozen=True)
class Comparison:
    """How two kernels are to be compared."""

    words: tuple[str, ...]
    boots: int
    #: From how many percent on the second is worse; None where nothing is to be judged.
    worse_than: float | None


def comparison(
    kernels: int, boots: int | None, worse_than: float | None, words: tuple[str, ...]
) -> Comparison | None:
    """Return the comparison that is asked for, None for none. Raises Problem for what does not fit
    together, and SystemExit for *words* that the benchmark does not know."""
    if kernels == 1:
        for option, given in (("--boots", boots), ("--worse-than", worse_than)):
            if given is not None:
                raise Problem(
                    f"{option} needs two kernels\nhint: --kernel BEFORE --kernel AFTER", Exit.USAGE
                )
        return None
    if kernels > 2:
        raise Problem(
            f"bench: compares two kernels, not {kernels}\nhint: two at a time", Exit.USAGE
        )
    request = Comparison(words or WORDS, boots or BOOTS, worse_than)
    plan = asked_for(parsed(request.words))
    needed = pairs_needed(plan, len(plan.methods or METHODS))
    if worse_than is not None and request.boots < needed:
        raise Problem(
            f"--boots {request.boots}: too few to say of all methods and points whether one is"
            f" worse\nhint: --boots {needed}, or fewer of them behind --",
            Exit.USAGE,
        )
    return request


class _Guests:
    """The benchmark on one kernel, each time in a guest of its own."""

    def __init__(
        self,
        kernel: Kernel,
        backend: Backend,
        options: Options,
        words: tuple[str, ...],
        stack: ExitStack,
    ) -> None:
        self._options = options
        self._boots = Boots(replace(kernel, modules=None), backend, options)  # it needs none
        self.name = f"{kernel} in {self._boots.where}"
        job = replace(self._boots.job(), program="bench", arguments=list(words))
        self._boots.prepare(Path(stack.enter_context(TemporaryDirectory(prefix="vm-"))))
        self._image = self._boots.image(job)

    def measure(self, log: Path, results: Path, show: Callable[[str], None]) -> Exit:
        """Boot once, with *log* for the console, and write the *results* that there are.

        :raises Problem: it did not come to its end, or the kernel complained.
        """
        with ExitStack() as stack:
            machine = replace(self._options.machine, measured=True)
            guest = self._boots.start(self._image, machine, stack, log, show)
            drive([guest], self._options.limits)
        records = guest.records
        verdict = judge(records, guest.ending, guest.log.lines())
        if guest.ending.trouble:
            raise Problem(guest.ending.trouble)
        if records.status is None:
            raise Problem(f"{verdict.lost or verdict.text} (console: {log})", verdict.status)
        if records.measured:
            results.write_text(records.measured)
        if verdict.splats:
            complaints = "\n  ".join(verdict.splats)
            raise Problem(f"the kernel complained ({log}):\n  {complaints}", Exit.FAILED)
        return Exit(records.status) if records.status in set(Exit) else Exit.FAILED


def _folder(options: Options) -> Path:
    folder = options.output or paths.new_run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def run(kernel: Kernel, backend: Backend, options: Options, words: tuple[str, ...]) -> Exit:
    """Boot *kernel* in *backend* and print what the benchmark prints, given *words*.

    :raises Problem: it did not come to its end.
    """
    folder = _folder(options)
    results = folder / "bench.json"
    results.unlink(missing_ok=True)
    progress = ("--progress",) if sys.stdout.isatty() else ()
    with ExitStack() as stack:
        guests = _Guests(kernel, backend, options, (*words, *progress), stack)
        say(f"booting {guests.name} ...")
        try:
            return guests.measure(folder / "console.log", results, _show)
        finally:
            if results.exists():
                say(f"\n{results}: all numbers; python3 -m bench --from it --plot FILE plots them")


def compare(
    chosen: Sequence[tuple[Kernel, Backend]], options: Options, request: Comparison
) -> Exit:
    """Boot two kernels in turns, print what the second costs over the first, and judge it.

    :raises Problem: a boot did not come to its end, or the two cannot be compared.
    """
    folder = _folder(options)
    found: dict[str, list[Results]] = {"A": [], "B": []}
    with ExitStack() as stack:
        both = {
            letter: _Guests(*one, options, request.words, stack)
            for letter, one in zip(found, chosen, strict=True)
        }
        for letter, guests in both.items():
            say(f"{letter}: {guests.name}")
        for number in range(1, request.boots + 1):
            # Who is first changes: what drifts must not be one kernel's.
            for letter in "AB" if number % 2 else "BA":
                say(f"boot {number} of {request.boots}: {letter}")
                log, results = (folder / f"{letter}-{number}.{x}" for x in ("log", "json"))
                said: list[str] = []
                if status := both[letter].measure(log, results, said.append):
                    raise Problem(f"{letter}, boot {number}: {''.join(said).strip()}", status)
                found[letter].append(load(results.read_text()))
    try:
        compared = compared_boots(list(zip(found["A"], found["B"], strict=True)))
    except ValueError as error:
        raise Problem(f"A and B cannot be compared: {error}", Exit.NOTHING) from None
    print("\n".join(report(compared, request.boots)))
    say(f"{folder}: all numbers, in a file for each boot")
    if request.worse_than is None:
        return Exit.OK
    worse = [one for one in compared if one.worse(request.worse_than)]
    print(
        f"B takes over {request.worse_than:g} % longer:" if worse else "B is not worse",
        *worse,
        sep="\n  ",
    )
    return Exit.FAILED if worse else Exit.OK


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
