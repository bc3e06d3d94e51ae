# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm run`: one kernel, one guest, one verdict, and the artefacts of it."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from vm import artefacts, modules, places, rootfs, runtime
from vm.backends import Command, Machine, Qemu, Uml
from vm.console import top_frames
from vm.errors import Exit, Problem
from vm.guest import Ending, Guest, Limits, drive
from vm.kernels import Kernel
from vm.records import Records
from vm.verdict import Verdict, combine, judge

_DEFAULT_CASES = "tests/open_tree_ns"
#: In the guest.
_WAIVERS = "/run/waivers.toml"
#: Lines of the console that are shown at most.
_TAIL = 20
#: By default; each takes a few hundred megabytes.
_MOST_GUESTS = 4


@dataclass(frozen=True)
class Options:
    """What the command line asks of a run."""

    pytest: tuple[str, ...] = ()
    user: str = "root"
    #: The contents of a file for pytest's --waive, empty for none.
    waivers: str = ""
    output: Path | None = None
    machine: Machine = field(default_factory=Machine)
    limits: Limits = field(default_factory=Limits)
    guests: int = 1
    dry_run: bool = False
    verbose: bool = False


def color() -> bool:
    """Whether to print colours: to a terminal, and not against the user's wish (NO_COLOR)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def pytest_arguments(given: tuple[str, ...], root: Path = places.ROOT) -> list[str]:
    """pytest's arguments in the guest: *given*, and the kernel cases when no path is among them."""
    fixed = ["-p", "no:cacheprovider", f"--color={'yes' if color() else 'no'}"]
    if not any(word.startswith(("-n", "--numprocesses", "--dist")) for word in given):
        fixed += ["-p", "no:xdist"]  # saves its import
    named = any(
        not word.startswith("-") and (root / word.partition("::")[0]).exists() for word in given
    )
    return [*fixed, *given, *([] if named else [_DEFAULT_CASES])]


def order(found: runtime.Runtime, options: Options, nonce: str) -> dict[str, object]:
    """What init is to do, as it stands in the image."""
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root" if options.user == "root" else "/tmp",
        "USER": options.user,
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        "COLUMNS": str(shutil.get_terminal_size((80, 24)).columns),
        "PYTHONPATH": rootfs.SITE,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT", "NO_COLOR", "CI"):
        if name in os.environ:
            environment[name] = os.environ[name]
    waive = (f"--waive={_WAIVERS}",) if options.waivers else ()
    return {
        "nonce": nonce,
        "folder": rootfs.PROJECT,
        "user": options.user,
        "packages": found.versions,
        "environment": environment,
        "files": {_WAIVERS: options.waivers} if options.waivers else {},
        "program": "pytest",
        "arguments": pytest_arguments((*options.pytest, *waive)),
    }


def default_guests(pytest: Sequence[str]) -> int:
    """How many guests share the cases: one per processor, or one for a look at a single case."""
    if any("::" in word or word in ("--co", "--collect-only") for word in pytest):
        return 1
    return min(len(os.sched_getaffinity(0)), _MOST_GUESTS)


def run(kernel: Kernel, backend: Qemu | None, options: Options, begin: float) -> Exit:
    """Boot *kernel*, in *backend* or as User-Mode Linux, run the cases, print the verdict.

    *begin* is when the work on this kernel began, by time.monotonic().
    """
    now = datetime.now(UTC)
    found = runtime.find("model" if "--stress" in " ".join(options.pytest) else "")
    nonce = secrets.token_hex(8)
    what = order(found, options, nonce)
    loaded = _modules(kernel)
    if options.dry_run:
        return _dry_run(kernel, backend, options, what, found, loaded)
    folder = options.output or places.new_run_folder()
    folder.mkdir(parents=True, exist_ok=True)
    label = backend.name if backend else "uml"
    numbers = range(1, options.guests + 1)
    logs = [folder / ("console.log" if n == 1 else f"console-{n}.log") for n in numbers]
    held: dict[int, list[str]] = {number: [] for number in numbers}
    with tempfile.TemporaryDirectory(prefix="vm-") as name, ExitStack() as stack:
        scratch = Path(name)
        if kernel.home is not None:
            stack.enter_context(places.using(kernel.home))
        image = scratch / "initramfs.cpio"
        rootfs.write(image, found, what, loaded)
        count = f"{options.guests} guests of " if options.guests > 1 else ""
        print(f"booting {count}{describe(kernel)} in {label} ...", flush=True)
        guests = []
        for number, log in zip(numbers, logs, strict=True):
            machine = replace(options.machine, share=f"{number}/{options.guests}")
            command = partial(
                boot_command, kernel, backend, image, scratch / f"uml-{number}", machine
            )
            # The first guest's output is seen as it comes, the others' once they have ended.
            show = _show if number == 1 else held[number].append
            guests.append(Guest(command, Records(nonce), log, show, stack))
        drive(guests, options.limits)
    end = time.monotonic()
    for number in numbers[1:]:
        print(f"\n{f' guest {number} of {options.guests} '.center(80, '-')}")
        _show("".join(held[number]))
    texts = [_lines(log) for log in logs]
    verdicts = [
        judge(guest.records, guest.ending, lines)
        for guest, lines in zip(guests, texts, strict=True)
    ]
    for one, lines, log in zip(verdicts, texts, logs, strict=True):
        _report(one, lines, log)
        _trace(kernel, lines, log)
    verdict = combine(verdicts)
    phases = _phases(begin, guests[0].records, guests[0].ending)
    environment = next((g.records.environment for g in guests if g.records.environment), {})
    head = {
        "verdict": verdict.text,
        "status": int(verdict.status),
        "incomplete": verdict.incomplete,
        "started": now.isoformat("T", "seconds"),
        "kernel": kernel.origin,
        "backend": label,
        "guests": options.guests,
        "seconds": round(end - begin, 2),
        "phases": phases,
        "environment": environment,
        "kernel_complaints": verdict.splats,
        "top_frames": next((frames for lines in texts if (frames := top_frames(lines))), []),
    }
    artefacts.write(folder, verdict.cases, head)
    if options.verbose:
        print("phases: " + ", ".join(f"{name} {value:.2f} s" for name, value in phases.items()))
    release = environment.get("release") or kernel.release or "?"
    origin = "" if kernel.origin == str(kernel.path) else f" ({kernel.origin})"
    print(
        f"Linux {release}{origin}, {label}: {verdict.text} in {end - begin:.1f} s;"
        f" artefacts: {folder}",
        flush=True,
    )
    return verdict.status


def _modules(kernel: Kernel) -> dict[str, bytes]:
    """The modules to load in the guest; a run can do without them."""
    if kernel.modules is None:
        return {}
    try:
        return modules.collect(kernel.modules)
    except Problem as problem:
        print(f"vm: no modules for this kernel: {problem}", file=sys.stderr)
        return {}


def _lines(log: Path) -> list[str]:
    return [line.rstrip() for line in log.read_text(errors="replace").splitlines()]


def describe(kernel: Kernel) -> str:
    """The kernel in a few words."""
    release = f"Linux {kernel.release}" if kernel.release else "a kernel"
    return f"{release} ({kernel.origin})"


def boot_command(
    kernel: Kernel, backend: Qemu | None, image: Path, scratch: Path, machine: Machine, fd: int
) -> Command:
    """The command that boots the kernel, with its report to the descriptor *fd*."""
    if backend is None:
        return Uml(scratch).command(kernel, image, f"fd:{fd}", machine)
    return backend.command(kernel, image, f"/proc/self/fd/{fd}", machine)


def _dry_run(
    kernel: Kernel,
    backend: Qemu | None,
    options: Options,
    what: dict[str, object],
    found: runtime.Runtime,
    loaded: dict[str, bytes],
) -> Exit:
    """Print the command; with --output the image is made there, so that the command works."""
    folder = options.output or Path("OUTPUT")
    image, report = folder / "initramfs.cpio", folder / "report.jsonl"
    if options.output is not None:
        folder.mkdir(parents=True, exist_ok=True)
        rootfs.write(image, found, what, loaded)
    if backend is not None:
        print(backend.command(kernel, image, str(report), options.machine))
    else:
        command = Uml(folder / "uml").command(kernel, image, "fd:3", options.machine)
        print(f"{command} </dev/null 3>{report}")
    return Exit.OK


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _report(verdict: Verdict, log: list[str], path: Path) -> None:
    """What there is to say before the last line: the kernel's complaints, the console's end."""
    if verdict.splats and not verdict.lost:
        print(f"\nthe kernel complained ({path}):")
        print("\n".join(f"  {line}" for line in verdict.splats[:_TAIL]))
    if verdict.lost:
        # pytest would have shown them at its end.
        for case in verdict.cases:
            if case.text:
                print(f"\n{f' {case.id} '.center(80, '_')}\n{case.story}")
    if verdict.lost and log:
        first = log.index(verdict.splats[0]) if verdict.splats else max(0, len(log) - _TAIL)
        print(f"\nconsole ({path}):")
        print("\n".join(f"  {line}" for line in log[first : first + _TAIL]))


def _trace(kernel: Kernel, log: list[str], path: Path) -> None:
    """Where in the kernel it was, and how to have the lines of its source."""
    frames = top_frames(log)
    if frames:
        print("\nthe kernel was in " + "\n     called from ".join(frames))
        if kernel.source is not None and kernel.home is not None:
            script = kernel.source / "scripts/decode_stacktrace.sh"
            words = shlex.join([str(script), str(kernel.home / "vmlinux"), "auto"])
            print(f"as lines of the source: {words} < {shlex.quote(str(path))}")


def _phases(begin: float, records: Records, ending: Ending) -> dict[str, float]:
    """Seconds per phase of the run, as far as it came."""
    marks = [("host set-up", ending.times["start"])]
    for name, kind in (
        ("firmware, kernel and init", "hello"),
        ("importing pytest", "ready"),
        ("collection", "collected"),
        ("cases", "end"),
    ):
        if kind in records.first:
            marks.append((name, records.first[kind]))
    marks.append(("power-off", ending.times["end"]))
    phases, last = {}, begin
    for name, at in marks:
        phases[name] = round(at - last, 2)
        last = at
    return phases
