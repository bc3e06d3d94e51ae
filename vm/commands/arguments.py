# SPDX-License-Identifier: GPL-2.0-only
"""The command line's grammar; the pages of its help are in texts.py."""

from __future__ import annotations

import argparse
from pathlib import Path

from vm.backend.choose import BACKENDS
from vm.commands import system_options, texts


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


def _days(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"not a number of days: {text}")
    return value


def _guest_options(
    verb: argparse.ArgumentParser, users: tuple[str, ...] = ("root", "nobody")
) -> argparse._ArgumentGroup:
    """Add the options of every verb that boots a kernel; return their group."""
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
        choices=users,
        default="root",
        help="run the cases as this user (default: root)"
        + ("; `user` is an ordinary account, with --system" if "user" in users else ""),
    )
    group.add_argument(
        "--memory",
        type=_whole,
        metavar="MIB",
        help="memory of each guest in MiB (default: 1024; 512 for User-Mode Linux; 2048 with"
        " --system)",
    )
    group.add_argument(
        "--cpus",
        type=_whole,
        metavar="N",
        help="processors of each guest (default: 1; 2 with --system)",
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
        "--boot-limit",
        type=_seconds,
        metavar="SECONDS",
        help="give up on a guest that has not booted after SECONDS; exit status 125 (default: 120;"
        " 900 with --system)",
    )
    return group


def _run_limit(group: argparse._ArgumentGroup) -> None:
    """Add the option of those that come to an end by themselves."""
    group.add_argument(
        "--run-limit",
        type=_seconds,
        metavar="SECONDS",
        help="give up on a guest that runs for more than SECONDS after it has booted; exit status"
        " 124 (default: 900; 7200 with --system)",
    )


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    usage: str,
    about: str,
    description: str,
    epilog: str | None = None,
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        usage=f"python3 -m vm {name} {usage}",
        help=about,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    top = argparse.ArgumentParser(
        prog="python3 -m vm",
        usage="python3 -m vm [VERB] [options] [-- ARGS]",
        description=texts.TOP,
        epilog=texts.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = top.add_subparsers(dest="verb", metavar="VERB")
    _run_verb(verbs)
    verb = _verb(
        verbs,
        "bench",
        "[--kernel K] [options] [-- BENCH-ARGS]",
        "run the benchmark on a kernel",
        texts.BENCH,
    )
    verb.add_argument("--kernel", default="", metavar="K", help=texts.KERNEL)
    verb.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for console.log and bench.json (default: a dated one in $XDG_STATE_HOME; its"
        " path is printed)",
    )
    _run_limit(_guest_options(verb))
    verb = _verb(
        verbs,
        "shell",
        "[--kernel K] [options]",
        "open a shell in a guest, with pytest and the cases",
        texts.SHELL,
    )
    verb.add_argument("--kernel", default="", metavar="K", help=texts.KERNEL)
    _guest_options(verb)
    _verb(verbs, "check", "[-- TOX-ARGS]", "run the project's own tests", texts.CHECK)
    verb = _verb(
        verbs,
        "kernels",
        "[SUITE] [--prune [DAYS]]",
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
    return top


def _run_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    verb = _verb(
        verbs,
        "run",
        "[--kernel K ...] [options] [-- PYTEST-ARGS]",
        "run the cases on a kernel (the default)",
        texts.RUN,
        system_options.HELP + texts.BUILD + texts.EPILOG,
    )
    group = verb.add_argument_group("kernels")
    group.add_argument(
        "--kernel",
        action="append",
        metavar="K",
        help=texts.KERNEL + "; may be given several times",
    )
    group.add_argument(
        "--build", action="store_true", help="build the tree that --kernel names first (see below)"
    )
    group.add_argument(
        "--debug-kernel",
        action="store_true",
        help="with --build: with lockdep, KASAN, kmemleak, fault injection and the checks of lists"
        " and of the VFS (vm/kernel/configs/debug.config)",
    )
    group.add_argument(
        "--repeat",
        type=_whole,
        default=1,
        metavar="N",
        help="run each kernel's cases N times, each time in a guest of its own (default: 1)",
    )
    group.add_argument(
        "--jobs",
        type=_whole,
        metavar="N",
        help="with several kernels: test N of them at a time (default: processors / guests)",
    )
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
        type=Path,
        metavar="FILE",
        help="known failures, which count as expected (pytest's option of that name)",
    )
    group = verb.add_argument_group("results")
    group.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="folder for console.log, results.ktap, junit.xml and summary.json (default: a dated"
        " one in $XDG_STATE_HOME; its path is printed)",
    )
    group.add_argument("--dry-run", action="store_true", help="only print the command that boots")
    group.add_argument(
        "-v", "--verbose", action="store_true", help="print how long each phase took"
    )
    group = _guest_options(verb, ("root", "nobody", "user"))
    group.add_argument(
        "--guests",
        type=_whole,
        metavar="N",
        help="share the cases among N guests of the kernel, whose own pytest output is in"
        " pytest.log (default: one per processor, at most 4; with several kernels, processors /"
        " kernels)",
    )
    _run_limit(group)
    system_options.add(verb)
