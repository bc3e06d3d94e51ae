# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm bench`: the benchmark on one kernel, in one guest."""

from __future__ import annotations

import secrets
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from vm import paths
from vm.backend.base import Backend, Machine
from vm.errors import Exit, Problem
from vm.initramfs import python, rootfs
from vm.kernel.image import Kernel
from vm.report.verdict import judge
from vm.run import plan
from vm.run.boot import Prepared
from vm.run.guest import Limits, drive
from vm.terminal import say


@dataclass(frozen=True)
class BenchOptions:
    """What the command line asks of a run."""

    arguments: tuple[str, ...] = ()
    user: str = "root"
    output: Path | None = None
    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)


def run(kernel: Kernel, backend: Backend, options: BenchOptions) -> Exit:
    """Boot *kernel* in *backend* and print what the benchmark prints.

    :raises Problem: it did not come to its end.
    """
    folder = options.output or paths.new_run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    log, results = folder / "console.log", folder / "bench.json"
    found, nonce = python.find(), secrets.token_hex(8)
    progress = ["--progress"] if sys.stdout.isatty() else []
    job = replace(
        plan.job(found, plan.Options(user=options.user), nonce),
        program="bench",
        arguments=[*options.arguments, *progress],
    )
    with ExitStack() as stack:
        prepared = Prepared(kernel, backend, stack)
        image = prepared.folder / "initramfs.cpio"
        rootfs.write(image, found, job, {})
        say(f"booting {kernel} in {backend.name} ...")
        machine = replace(options.machine, measured=True)
        guest = prepared.start(image, machine, nonce, log, _show)
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
