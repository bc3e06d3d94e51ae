# SPDX-License-Identifier: GPL-2.0-only
"""The command line's grammar; the pages of its help are in texts.py."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from bench.grammar import Parser, count, path
from vm.commands import coverage, faults_options, guest_options, system_options, texts
from vm.kernel.source import scheme_of


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of days")
    return value


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percent from 0 on")
    return value


def _verb(
    verbs: argparse._SubParsersAction[Parser],
    name: str,
    usage: str,
    about: str,
    description: str,
    epilog: str | None = None,
) -> Parser:
    return verbs.add_parser(
        name,
        usage=f"python3 -m vm {name} {usage}",
        help=about,
        description=description,
        epilog=epilog,
    )


#: How often each of two kernels is booted: one pair in disagreement does not hide what the others
#: say of a dozen ratios.
BOOTS = 14
#: What stands behind `--`, by verb.
_BEHIND = {"run": "pytest", "bench": "the benchmark", "check": "tox"}


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Return what *words* ask for.

    :raises SystemExit: they make no sense, which has been printed, or the help was asked for.
    """
    grammar, verbs = _grammar()
    arguments, unknown = grammar.parse_known_args(_joined(words))
    if unknown:
        verb = verbs.choices[arguments.verb]
        given = " ".join(unknown)
        hint = f"{verb.prog} --help lists the options"
        if arguments.verb == "run" and (Path(unknown[0]).exists() or scheme_of(unknown[0])):
            hint = f"kernels are given with --kernel: {verb.prog} --kernel {given}"
        elif arguments.verb in _BEHIND:
            hint = f"what is for {_BEHIND[arguments.verb]} goes behind --: {verb.prog} -- {given}"
        verb.unknown(unknown, hint)
    return arguments


def _joined(words: Sequence[str]) -> list[str]:
    """Return *words* with those joined to their option that argparse would take for another."""
    found: list[str] = []
    for word in words:
        if found and found[-1] in ("--append", "--qemu-args"):
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _grammar() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    top = Parser(
        prog="python3 -m vm",
        usage="python3 -m vm [VERB] [options] [-- ARGS]",
        description=texts.TOP,
        epilog=texts.EPILOG,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB", prog="python3 -m vm")
    _run_verb(verbs)
    verb = _verb(
        verbs,
        "bench",
        "[--kernel K [--kernel K]] [options] [-- BENCH-ARGS]",
        "run the benchmark on a kernel",
        texts.BENCH,
    )
    verb.add_argument(
        "--kernel",
        action="append",
        type=guest_options.kernel,
        metavar="K",
        help=texts.KERNEL + "; given twice, the second kernel is compared with the first",
    )
    verb.add_argument(
        "--boots",
        type=count,
        metavar="N",
        help=f"with two kernels: boot each N times, in turns (default: {BOOTS})",
    )
    verb.add_argument(
        "--worse-than",
        type=_percent,
        metavar="PERCENT",
        help="with two kernels: exit status 1 where a method takes more than PERCENT longer on the"
        " second, and the whole interval of confidence says so",
    )
    verb.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder for console.log and bench.json, of each boot with two kernels (default: a"
        " dated one in $XDG_STATE_HOME; its path is printed)",
    )
    guest_options.add_run_limit(guest_options.add(verb, measured=True), whole=False)
    verb = _verb(
        verbs,
        "shell",
        "[--kernel K] [options]",
        "open a shell in a guest, with pytest and the cases",
        texts.SHELL,
    )
    verb.add_argument("--kernel", type=guest_options.kernel, metavar="K", help=texts.KERNEL)
    guest_options.add(verb)
    _verb(verbs, "check", "[-- TOX-ARGS]", "run the project's own tests", texts.CHECK)
    verb = _verb(
        verbs,
        "kernels",
        "[SUITE] [--prune [DAYS]] [--record FOLDER]",
        "list fetchable and cached kernels",
        texts.KERNELS,
    )
    verb.add_argument(
        "suite",
        nargs="?",
        metavar="SUITE",
        help="also list what this Debian suite offers, e.g. trixie-backports",
    )
    verb.add_argument(
        "--prune",
        nargs="?",
        type=_days,
        const=30.0,
        metavar="DAYS",
        help="delete cached kernels and builds unused for DAYS days (default: 30; 0: all that are"
        " not in use)",
    )
    verb.add_argument(
        "--record",
        type=Path,
        metavar="FOLDER",
        help="print instead which kernel has which fix, from the artefacts of a run with several",
    )
    verb = _verb(
        verbs,
        "faults",
        "[FAULT ...] [options]",
        "plant faults in a kernel, and see what notices them",
        texts.FAULTS,
        texts.FAULTS_END,
    )
    faults_options.add(verb)
    return top, verbs


def _run_verb(verbs: argparse._SubParsersAction[Parser]) -> None:
    verb = _verb(
        verbs,
        "run",
        "[--kernel K ...] [options] [-- PYTEST-ARGS]",
        "run the cases on a kernel (the default)",
        texts.RUN,
        system_options.HELP + texts.BUILD + coverage.HELP + texts.EPILOG,
    )
    group = verb.add_argument_group("kernels")
    group.add_argument(
        "--kernel",
        action="append",
        type=guest_options.kernel,
        metavar="K",
        help=texts.KERNEL + "; may be given several times",
    )
    group.add_argument(
        "--build",
        action="store_true",
        help="build the tree that --kernel names first, or the one you are in (see below)",
    )
    group.add_argument(
        "--kconfig",
        type=path,
        action="append",
        default=[],
        metavar="FRAGMENT",
        help="with --build: a file of options to build with, as make has them in .config; may be"
        " given several times, and the last one wins",
    )
    group.add_argument(
        "--debug-kernel",
        action="store_true",
        help="with --build: with lockdep, KASAN, kmemleak, fault injection and the checks of lists"
        " and of the VFS (vm/kernel/configs/debug.config)",
    )
    group.add_argument(
        "--repeat",
        type=count,
        default=1,
        metavar="N",
        help="run each kernel's cases N times, each time in a guest of its own (default: 1)",
    )
    group.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="with several kernels: test N of them at a time (default: processors / guests)",
    )
    coverage.add(verb)
    group = verb.add_argument_group("cases")
    group.add_argument(
        "--require",
        action="store_true",
        help="a case that is skipped for a missing feature or privilege fails instead",
    )
    for name, metavar, what in (
        ("--rule", "ID", "check this rule of tests/open_tree_ns/RULES.md"),
        ("--fixed-by", "COMMIT", "fail without this kernel commit"),
    ):
        group.add_argument(
            name,
            action="append",
            default=[],
            metavar=metavar,
            help=f"run only the cases that {what}; may be given several times",
        )
    group.add_argument(
        "--waive",
        type=path,
        metavar="FILE",
        help="known failures, which count as expected (pytest's option of that name)",
    )
    group = verb.add_argument_group("results")
    group.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder for console.log, results.ktap, junit.xml and summary.json (default: a dated"
        " one in $XDG_STATE_HOME; its path is printed)",
    )
    group.add_argument("--dry-run", action="store_true", help="only print the command that boots")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="print how long each phase took"
    )
    group = guest_options.add(verb, whole=True)
    group.add_argument(
        "--guests",
        type=count,
        metavar="N",
        help="share the cases among N guests of the kernel, whose own pytest output is in"
        " pytest.log (default: one per processor, at most 4; with several kernels, processors /"
        " kernels)",
    )
    guest_options.add_run_limit(group, whole=True)
    system_options.add(verb)
