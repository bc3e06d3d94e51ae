# SPDX-License-Identifier: GPL-2.0-only
"""The command line's grammar; the pages of its help are in texts.py."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from bench.grammar import EMPTY, Parser, count, mebibytes, path, seconds
from vm.arch import PROCESSORS
from vm.backend.choose import BACKENDS
from vm.commands import coverage, system_options, texts
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


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _kernel(text: str) -> str:
    # The default kernel in place of the one that was meant would be a verdict on the wrong one.
    if not text.strip():
        raise argparse.ArgumentTypeError(EMPTY)
    return text


def _guest_options(verb: argparse.ArgumentParser, whole: bool = False) -> argparse._ArgumentGroup:
    """Add the options of every verb that boots a kernel; return their group.

    :param whole: it may also boot a complete system, which has defaults of its own.
    """
    group = verb.add_argument_group("guests")
    group.add_argument(
        "--backend",
        choices=("auto", *BACKENDS),
        default="auto",
        help="run the kernel in QEMU, as User-Mode Linux, or in QEMU through vng (installed if"
        " missing); default: whichever fits the kernel, QEMU for all but User-Mode Linux",
    )
    group.add_argument(
        "--user",
        choices=("root", "nobody", *(("user",) if whole else ())),
        default="root",
        help="run the cases as this user (default: root)"
        + "; `user` is an ordinary account, with --system" * whole,
    )
    group.add_argument(
        "--userland",
        choices=PROCESSORS,
        help="run the cases as programs for this processor, such as one of 32 bits on a kernel of"
        " 64, in the distribution's Python for it, which is fetched (default: the kernel's own)",
    )
    group.add_argument(
        "--memory",
        type=mebibytes,
        metavar="MIB",
        help="memory of each guest in MiB, or as 512M, 1G (default: 1024; 512 for User-Mode Linux"
        f"{'; 2048 with --system' * whole})",
    )
    group.add_argument(
        "--cpus",
        type=count,
        metavar="N",
        help=f"processors of each guest (default: 1{'; 2 with --system' * whole})",
    )
    group.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="WORDS",
        help="append to the kernel command line, e.g. 'slub_debug=FZP lsm='; --dry-run prints the"
        " whole line",
    )
    group.add_argument(
        "--qemu-args",
        type=_words,
        action="append",
        default=[],
        metavar="WORDS",
        help="append to QEMU's command line, e.g. '-device virtio-rng-pci -s'",
    )
    group.add_argument(
        "--boot-limit",
        type=seconds,
        metavar="SECONDS",
        help="give up on a guest that has not booted after SECONDS (or 90s, 2m, 1h); exit status"
        f" 125 (default: 120{'; 900 with --system' * whole})",
    )
    return group


def _run_limit(group: argparse._ArgumentGroup, whole: bool) -> None:
    """Add the option of those that come to an end by themselves."""
    group.add_argument(
        "--run-limit",
        type=seconds,
        metavar="SECONDS",
        help="give up on a guest that runs for more than SECONDS after it has booted; exit status"
        f" 124 (default: 900{'; 7200 with --system' * whole})",
    )


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
        type=_kernel,
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
    _run_limit(_guest_options(verb), whole=False)
    verb = _verb(
        verbs,
        "shell",
        "[--kernel K] [options]",
        "open a shell in a guest, with pytest and the cases",
        texts.SHELL,
    )
    verb.add_argument("--kernel", type=_kernel, metavar="K", help=texts.KERNEL)
    _guest_options(verb)
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
        help="print docs/kernels.md instead, from the artefacts of a run with several kernels",
    )
    _faults_verb(verbs)
    return top, verbs


def _faults_verb(verbs: argparse._SubParsersAction[Parser]) -> None:
    verb = _verb(
        verbs,
        "faults",
        "[FAULT ...] [options]",
        "plant faults in a kernel, and see what notices them",
        texts.FAULTS,
        texts.FAULTS_END,
    )
    verb.add_argument(
        "fault",
        nargs="*",
        metavar="FAULT",
        help="an id, a family, or a kind (hand, mechanical); may be a pattern, as '*pivot*'"
        " (default: all)",
    )
    verb.add_argument(
        "--kernel",
        type=_kernel,
        metavar="TREE",
        help="a source tree of the kernel, which is copied and stays as it is (default: Debian's"
        " package of the source, fetched)",
    )
    verb.add_argument(
        "--kconfig",
        type=path,
        action="append",
        default=[],
        metavar="FRAGMENT",
        help="a file of options to build with; may be given several times",
    )
    verb.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="boot N faults at a time (default: one per processor, at most 4)",
    )
    verb.add_argument(
        "--output",
        type=path,
        metavar="DIR",
        help="folder for results.jsonl, to which a later start adds, evidence.json and evidence.md"
        " (default: one in the cache for each source; their paths are printed)",
    )
    verb.add_argument(
        "--page", type=path, metavar="FILE", help="also write the page there: docs/evidence.md"
    )
    verb.add_argument("--fresh", action="store_true", help="measure again what was measured before")
    verb.add_argument(
        "--list", action="store_true", help="only list the faults: id, family, what is seen"
    )
    verb.add_argument(
        "--report", action="store_true", help="only write the page of what was measured before"
    )


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
        type=_kernel,
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
    group = _guest_options(verb, whole=True)
    group.add_argument(
        "--guests",
        type=count,
        metavar="N",
        help="share the cases among N guests of the kernel, whose own pytest output is in"
        " pytest.log (default: one per processor, at most 4; with several kernels, processors /"
        " kernels)",
    )
    _run_limit(group, whole=True)
    system_options.add(verb)
