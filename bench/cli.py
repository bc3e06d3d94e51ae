# SPDX-License-Identifier: GPL-2.0-only
"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar

from bench import machine, program
from bench.grammar import Parser, count, path, seconds, whole
from bench.measure import measure
from bench.methods import METHODS
from bench.plan import BY_PROGRAM, MODES, Plan
from bench.plot import PLOTTED, NoPlot, plot, require
from bench.report import report
from bench.results import Results, load
from bench.workers import MethodFailed, WorkersFailed

_DESCRIPTION = """How many containers a second, with OPEN_TREE_NAMESPACE and with what it replaces.

A container is a process in a mount namespace of its own whose root is a given directory. Each
method makes as many as it can, in turn with the others, while the caller's mount table grows,
while more processes do the same, while more is mounted below the root, and while more tasks
sleep on the system. Works as root, and in
a user namespace of its own otherwise. Everything happens in namespaces of the benchmark's own, of
which nothing is left, Ctrl-C or not.

  python3 -m bench                                  everything: about two minutes
  python3 -m bench --quick                          a few seconds, to see that it works
  python3 -m bench --tables 30,3000 --modes calls --methods a,c
  python3 -m bench --json results.json --plot results.svg
  python3 -m bench --from results.json --plot results.png
  python3 -m vm bench                               in a guest, on a kernel that has the flag
"""

_METHODS = "\n".join(f"  {m.letter}  {m.title} ({len(m.calls)} calls)" for m in METHODS.values())
_EPILOG = f"""methods:
{_METHODS}

exit status:
  0    measured (methods the kernel lacks are shown as absent)
  1    a method failed
  2    usage
  3    it cannot be done here: the message says why
  130  interrupted
"""


T = TypeVar("T")

#: What --quick stands for.
_QUICK = Plan(
    tables=(1, 30, 1000),
    creators=(1, 2),
    depths=(0, 10),
    siblings=(0, 100),
    tasks=(0, 1000),
    seconds=0.1,
    rounds=5,
)


def _list(one: Callable[[str], T], text: str) -> tuple[T, ...]:
    """Values between commas, each once."""
    return tuple(dict.fromkeys(one(word) for word in text.split(",")))


def _word(known: Sequence[str], text: str) -> str:
    if text not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(known)}")
    return text


def parser() -> Parser:
    """Return the command line's grammar. What is not given is None."""
    top = Parser(prog="python3 -m bench", description=_DESCRIPTION, epilog=_EPILOG)
    axes = top.add_argument_group("what is measured (each axis alone, the others at their base)")
    axes.add_argument(
        "--tables",
        type=partial(_list, count),
        metavar="N,...",
        help="mounts in the caller's table (default: 1,30,100,1000,10000; base: 30)",
    )
    axes.add_argument(
        "--creators",
        type=partial(_list, count),
        metavar="N,...",
        help="processes that make containers at the same time (default: 1, 2, 4 ... processors,"
        " twice as many; base: 1)",
    )
    axes.add_argument(
        "--depths",
        type=partial(_list, whole),
        metavar="N,...",
        help="depth of the stack of mounts below the containers' root (default: 0,10,100; base: 0)",
    )
    axes.add_argument(
        "--siblings",
        type=partial(_list, whole),
        metavar="N,...",
        help="mounts beside the containers' root, on the same mount (default: 0,100,1000; base: 0)",
    )
    axes.add_argument(
        "--tasks",
        type=partial(_list, whole),
        metavar="N,...",
        help="tasks that sleep on the system meanwhile, besides those it has (default:"
        " 0,100,1000,10000; base: 0)",
    )
    axes.add_argument(
        "--modes",
        type=partial(_list, partial(_word, MODES)),
        metavar="MODE,...",
        help="calls: in one process, which returns each time; process: each in a process that"
        " copies nothing; fork: each in a fork of Python, for comparison; handle: made and closed"
        " again, but never entered; bystander: how long others wait for a mount; forker: for a"
        " process; reader: how long reading a table takes, by mountinfo and by statmount;"
        " reader-busy: while another mounts (default: all)",
    )
    axes.add_argument(
        "--methods",
        type=partial(_list, partial(_word, tuple(METHODS))),
        metavar="LETTER,...",
        help="see below (default: all)",
    )
    axes.add_argument(
        "--shared",
        action="store_true",
        default=None,
        help="the caller's mounts are shared, as systemd has them (default: private)",
    )
    length = top.add_argument_group("for how long")
    length.add_argument(
        "--seconds",
        type=seconds,
        metavar="S",
        help="for each method at each point, over all rounds; a method that takes longer is"
        " given three turns anyway (default: 0.5)",
    )
    length.add_argument(
        "--rounds",
        type=count,
        metavar="N",
        help="turns of each method at each point (default: 10)",
    )
    length.add_argument("--quick", action="store_true", help="smaller defaults for all of these")
    output = top.add_argument_group("where the results go, besides the terminal")
    output.add_argument("--json", type=path, metavar="FILE", help="all numbers")
    output.add_argument(
        "--plot",
        type=path,
        metavar="FILE",
        help="throughput by size of the table, as .svg or .png (takes matplotlib)",
    )
    output.add_argument(
        "--from",
        dest="source",
        type=path,
        metavar="FILE",
        help="measure nothing, show the results of an earlier --json",
    )
    output.add_argument(
        "--progress", action="store_true", help="show progress where there is no terminal, too"
    )
    return top


class _Problem(Exception):
    """What the user can put right."""


def asked_for(arguments: argparse.Namespace) -> Plan:
    """Return the plan of a command line that :func:`parsed` has read."""
    given = {
        field.name: value
        for field in fields(Plan)
        if (value := getattr(arguments, field.name)) is not None
    }
    return replace(_QUICK if arguments.quick else Plan(), **given)


def parsed(words: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line *words* asks for.

    :raises SystemExit: it makes no sense, which has been printed, or help was asked for.
    """
    grammar = parser()
    arguments, unknown = grammar.parse_known_args(words)
    if unknown:
        grammar.unknown(unknown, f"{grammar.prog} --help lists the options")
    return arguments


def _plan(arguments: argparse.Namespace) -> Plan:
    plan = asked_for(arguments)
    wanted = [mode for mode in plan.modes if mode in BY_PROGRAM]
    if wanted and (reason := program.missing()):
        rest = ",".join(mode for mode in MODES if mode not in BY_PROGRAM)
        raise _Problem(f"--modes {','.join(wanted)}: {reason}\nhint: --modes {rest}")
    limit, most = machine.mount_max(), max(point.table for point in plan.points())
    # The copy of a table is made before the old one goes, and each has a mount or two of its own.
    if 0 < limit < most + 2:
        raise _Problem(
            f"{most} mounts are too many here: sysctl fs.mount-max allows {limit} to a namespace\n"
            "hint: raise it, or give less of --tables, --depths and --siblings"
        )
    return plan


def _shower(wanted: bool) -> Callable[[float, str], None]:
    """Shows progress, on one line of the terminal."""
    if not wanted and not sys.stderr.isatty():
        return lambda _part, _what: None
    shown = ""

    def show(part: float, what: str) -> None:
        nonlocal shown
        text = f"{part:4.0%} {what}"
        if text != shown:
            shown = text
            print(f"\r{text:<40}\r", end="", file=sys.stderr, flush=True)

    return show


def _require_writable(file: Path) -> None:
    """Raise _Problem where *file* cannot be written."""
    if file.is_dir():
        raise _Problem(f"{file}: cannot write: it is a folder\nhint: name a file in it")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        what = "that file" if file.exists() else "that folder"
        raise _Problem(f"{file}: cannot write to {what}\nhint: name another")


def _measured(arguments: argparse.Namespace) -> Results:
    # What can be known to fail fails now, and not in two minutes.
    for file in filter(None, (arguments.json, arguments.plot)):
        _require_writable(file)
    plan = _plan(arguments)
    if arguments.plot:
        require(arguments.plot)
        if not any(len(plan.series(*panel)) > 1 for panel in PLOTTED):
            raise _Problem(
                f"--plot {arguments.plot}: nothing to plot\n"
                "hint: more than one size in --tables or --tasks, with calls among the --modes"
            )
    show = _shower(arguments.progress)
    try:
        return measure(plan, show)
    finally:
        show(1, "")


def _loaded(file: Path) -> Results:
    try:
        return load(file.read_text())
    except ValueError as error:
        raise _Problem(f"--from {file}: {error}") from None


def _interrupt(number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt(signal.Signals(number).name)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line *words*; the exit status."""
    arguments = parsed(words)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1)
            signal.signal(number, _interrupt)
    try:
        results = _loaded(arguments.source) if arguments.source else _measured(arguments)
        # First what took so long, on the terminal: a file may fail.
        print(report(results), end="", flush=True)
        if arguments.json:
            arguments.json.write_text(results.dump())
        if arguments.plot:
            plot(results, arguments.plot)
    except MethodFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except (WorkersFailed, NoPlot, _Problem) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"bench: {where}{error.strerror}", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    return 0
