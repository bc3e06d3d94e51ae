# SPDX-License-Identifier: GPL-2.0-only
"""The command line, and the one place where errors become a line and an exit status."""

from __future__ import annotations

import argparse
import errno
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.utils.waivers import parse as parse_waivers
from vm import bench, packages, qemu
from vm.backends import Machine, Qemu
from vm.check import check
from vm.errors import Exit, Interrupted, Problem
from vm.guest import Limits
from vm.kernels import Kernel, Kind, identify
from vm.process import signals_raise
from vm.run import Options, default_guests, require_kind, run

_RUN = """Boot a kernel in a guest, run the cases in it, print a verdict.

  python3 -m vm run --kernel arch/x86/boot/bzImage     your kernel, in QEMU
  python3 -m vm run --kernel ./linux                   your kernel, User-Mode Linux
  python3 -m vm run --kernel debian:trixie-backports=7.0
                                                       a packaged kernel of that series
  python3 -m vm run -- -k covered -x                   words behind -- go to pytest
"""

_EPILOG = """exit status:
  0    every case passed
  1    a case failed, or the kernel crashed or complained on its console
  2    usage
  3    the host cannot do it: a program is missing, an image is bad, the disk is full
  4    nothing was tested: the kernel lacks the feature, or no case was selected
  124  run limit
  125  the kernel could not be booted (git bisect run: skip)
  130  interrupted
"""


def _seconds(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"not a number of seconds above 0: {text}")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"not a number above 0: {text}")
    return value


def _guest_options(verb: argparse.ArgumentParser) -> None:
    """The options of every verb that boots a kernel."""
    verb.add_argument(
        "--backend",
        choices=("auto", "qemu", "uml"),
        default="auto",
        help="what the kernel runs in (default: what fits it; QEMU where there is a choice)",
    )
    verb.add_argument(
        "--user",
        choices=("root", "nobody"),
        default="root",
        help="whose rights there are in the guest (default: root)",
    )
    verb.add_argument(
        "--memory",
        type=_whole,
        metavar="MIB",
        help="of each guest (default: 1024; 512 for User-Mode Linux)",
    )
    verb.add_argument(
        "--cpus", type=_whole, default=1, metavar="N", help="of each guest (default: 1)"
    )
    verb.add_argument(
        "--boot-limit",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="until the guest first answers (default: 120)",
    )
    verb.add_argument(
        "--run-limit",
        type=_seconds,
        default=900.0,
        metavar="SECONDS",
        help="from then on (default: 900)",
    )


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python3 -m vm",
        description="Boot a real kernel in a guest, run the cases in it, print a verdict.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    verb = verbs.add_parser(
        "run",
        help="run the cases on a kernel (the default)",
        description=_RUN,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--kernel",
        action="append",
        metavar="K",
        help="a bzImage, a vmlinux, a User-Mode Linux binary, or a package as"
        " debian[:SUITE][/FLAVOUR][=VERSION]; may be given several times (default: the newest"
        " packaged kernel that has the flag)",
    )
    verb.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for console.log, results.ktap, junit.xml and summary.json (default: a dated"
        " one in $XDG_STATE_HOME, its path is printed)",
    )
    verb.add_argument(
        "--require",
        action="store_true",
        help="a case that is skipped for a missing feature or privilege fails instead",
    )
    verb.add_argument(
        "--waive",
        type=Path,
        metavar="FILE",
        help="known failures, which count as expected (pytest's option of that name)",
    )
    verb.add_argument(
        "--guests",
        type=_whole,
        metavar="N",
        help="share the cases among N guests of the kernel (default: one per processor, at most 4)",
    )
    _guest_options(verb)
    verb.add_argument("--dry-run", action="store_true", help="print the command that boots")
    verb.add_argument("-v", "--verbose", action="store_true", help="print how long each phase took")
    verb = verbs.add_parser(
        "bench",
        help="run the benchmark on a kernel (`--` passes words to it)",
        description=bench.DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--kernel", default="", metavar="K", help="as for run")
    verb.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for console.log and bench.json (default: a dated one in $XDG_STATE_HOME, its"
        " path is printed)",
    )
    _guest_options(verb)
    verb = verbs.add_parser("check", help="run the project's own tests (`--` passes words to tox)")
    verb = verbs.add_parser("kernels", help="list kernels in the cache and those to be had")
    verb.add_argument("suite", nargs="?", help="a Debian suite to look into (trixie-backports)")
    return top


def _kernels(suite: str | None) -> Exit:
    """Print what --kernel takes, one specification a line."""
    for spec, release in packages.listed():
        print(f"{spec}  Linux {release}, in the cache")
    for spec in packages.obtainable(suite) if suite else []:
        print(spec)
    return Exit.OK


def _waivers(file: Path) -> str:
    """The contents of *file*, once it is seen that pytest will take it in the guest."""
    try:
        data = file.read_bytes()
        parse_waivers(data)
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else error
        raise Problem(f"--waive {file}: {text}", Exit.USAGE) from None
    return data.decode()


def _run(arguments: argparse.Namespace, pytest: tuple[str, ...]) -> Exit:
    options = Options(
        pytest=(*pytest, *(["--require"] if arguments.require else [])),
        user=arguments.user,
        waivers=_waivers(arguments.waive) if arguments.waive else "",
        output=arguments.output and arguments.output.resolve(),
        machine=Machine(arguments.memory, arguments.cpus),
        limits=Limits(arguments.boot_limit, arguments.run_limit),
        guests=arguments.guests or default_guests(pytest),
        dry_run=arguments.dry_run,
        verbose=arguments.verbose,
    )
    status = Exit.OK
    for spec in arguments.kernel or [""]:
        begin = time.monotonic()
        kernel, qemu = _choose(spec, arguments.backend)
        status = max(status, run(kernel, qemu, options, begin))
    return status


def _bench(arguments: argparse.Namespace, words: tuple[str, ...]) -> Exit:
    kernel, qemu = _choose(arguments.kernel, arguments.backend)
    return bench.run(
        kernel,
        qemu,
        bench.BenchOptions(
            words,
            arguments.user,
            arguments.output and arguments.output.resolve(),
            Machine(arguments.memory, arguments.cpus),
            Limits(arguments.boot_limit, arguments.run_limit),
        ),
    )


def _choose(text: str, backend: str) -> tuple[Kernel, Qemu | None]:
    """The kernel that *text* names, and the QEMU to boot it in (None: User-Mode Linux)."""
    if not text:
        return _default(backend)
    named = packages.is_spec(text)
    kernel = packages.get(packages.parse(text)) if named else identify(Path(text).expanduser())
    require_kind(kernel, backend)
    if kernel.kind is Kind.UML:
        return kernel, None
    return kernel, qemu.accelerated(qemu.find(), kernel)


def _default(backend: str) -> tuple[Kernel, Qemu | None]:
    """The newest packaged kernel that has the feature, as User-Mode Linux where QEMU fails."""
    if backend != "uml":
        try:
            program = qemu.find()
        except Problem as problem:
            if backend == "qemu":
                raise
            print(f"User-Mode Linux instead of QEMU: {problem}", file=sys.stderr)
        else:
            kernel = packages.get(packages.Spec())
            return kernel, qemu.accelerated(program, kernel)
    return packages.get(packages.Spec(flavour=packages.UML)), None


def _split(words: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """(the launcher's words, pytest's words after the first `--`)."""
    given = list(words)
    if "--" in given:
        at = given.index("--")
        return given[:at], tuple(given[at + 1 :])
    return given, ()


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line *words*; the exit status."""
    own, pytest = _split(sys.argv[1:] if words is None else words)
    if not own or (own[0].startswith("-") and own[0] not in ("-h", "--help")):
        own.insert(0, "run")
    arguments = parser().parse_args(own)
    try:
        with signals_raise():
            match arguments.verb:
                case "bench":
                    return int(_bench(arguments, pytest))
                case "check":
                    return int(check(pytest))
                case "kernels":
                    return int(_kernels(arguments.suite))
                case _:
                    return int(_run(arguments, pytest))
    except Problem as problem:
        print(f"vm: {problem}", file=sys.stderr)
        return int(problem.status)
    except Interrupted as signal:
        print(f"vm: interrupted ({signal})", file=sys.stderr)
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads: be quiet at exit too
        return int(Exit.HOST)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM):
            raise
        where = error.filename or f"one of {tempfile.gettempdir()}, the cache, the artefacts"
        print(f"vm: {error.strerror}: {where}", file=sys.stderr)
        return int(Exit.HOST)
