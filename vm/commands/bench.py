# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm bench`: the benchmark on one kernel, in one guest."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from vm import paths
from vm.backend.base import Backend
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


def run(kernel: Kernel, backend: Backend, options: Options, words: tuple[str, ...]) -> Exit:
    """Boot *kernel* in *backend* and print what the benchmark prints, given *words*.

    :raises Problem: it did not come to its end.
    """
    folder = options.output or paths.new_run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    log, results = folder / "console.log", folder / "bench.json"
    boots = Boots(replace(kernel, modules=None), backend, options)  # it needs none
    progress = ["--progress"] if sys.stdout.isatty() else []
    job = replace(boots.job(), program="bench", arguments=[*words, *progress])
    with ExitStack() as stack:
        boots.prepare(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-"))))
        image = boots.image(job)
        say(f"booting {kernel} in {backend.name} ...")
        machine = replace(options.machine, measured=True)
        guest = boots.start(image, machine, stack, log, _show)
        drive([guest], options.limits)
    records = guest.records
    verdict = judge(records, guest.ending, guest.log.lines())
    if guest.ending.trouble:
        raise Problem(guest.ending.trouble)
    if records.status is None:
        raise Problem(f"{verdict.lost or verdict.text} (console: {log})", verdict.status)
    if records.measured:
        results.write_text(records.measured)
        say(f"\n{results}: all numbers; python3 -m bench --from it --plot FILE plots them")
    if verdict.splats:
        complaints = "\n  ".join(verdict.splats)
        raise Problem(f"the kernel complained ({log}):\n  {complaints}", Exit.FAILED)
    return Exit(records.status) if records.status in set(Exit) else Exit.FAILED


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
