# SPDX-License-Identifier: GPL-2.0-only
"""The command line's grammar, and its help: pages one can work from."""

from __future__ import annotations

import argparse
from pathlib import Path

from vm.commands import bench, system_options

_RUN = """Boot a kernel in a guest, run the cases in it, print a verdict.

  python3 -m vm run --kernel arch/x86/boot/bzImage     your kernel, in QEMU
  python3 -m vm run --kernel ./linux                   your kernel, User-Mode Linux
  python3 -m vm run --kernel ~/linux                   what was built in that tree
  python3 -m vm run --kernel ~/linux --build           build it first
  python3 -m vm run --kernel debian:trixie-backports=7.0
                                                       a packaged kernel of that series
  python3 -m vm run --kernel ./good --kernel ./bad     both, and the cases that differ
  python3 -m vm run -- -k covered -x                   words behind -- go to pytest
  python3 -m vm run --system debian:trixie --kernel K  in a complete Debian system
"""

_SHELL = """Boot a kernel in a guest and give its shell: pytest, python3, and what there is here of
ls, mount, unshare, strace and the like. Nothing of the host's files can be reached.

  python3 -m vm shell --kernel ./linux         a prompt; exit or Ctrl-] ends the guest
  echo 'uname -r' | python3 -m vm shell        commands from standard input; the status is theirs
"""

_BUILD = """--build:
  Runs make in a build tree, be it the source itself or the folder that make O= was given. To the
  tree's .config are added the options that the cases and a guest need; the file stays as it is,
  the sum lies beside it as .config.open_tree_ns. A source without a .config is built from
  x86_64_defconfig, for User-Mode Linux with --backend uml, in a folder of the cache ($KBUILD_OUTPUT
  where that is set). make compiles what has changed and nothing else, through ccache where it is
  installed; $CC, $LLVM and the like are make's as ever. What depends on an added option is compiled
  again whenever you alternate with a make of your own: to avoid that, have it in your .config.

bisection:
  With --build the exit status is 0, 1 or 125, so that in a kernel tree

    export PYTHONPATH=/path/to/this/checkout
    git bisect start BAD GOOD
    git bisect run python3 -m vm run --build --kernel .

  finds the commit; words behind -- choose the case it is about. Try the line by hand first: it
  should give 0 on the good commit and 1 on the bad one.

Python and pytest in the guest:
  The Python that runs this; where it is linked with libpython.so, and another of the same version
  on PATH or in the system's folders is not, that other: under emulation a run takes a tenth less.

"""

_EPILOG = """exit status:
  0    every case passed
  1    a case failed, or the kernel crashed or complained on its console
  2    usage
  3    the host cannot do it: a program is missing, an image is bad, the disk is full
  4    nothing was tested: the kernel lacks the feature, or no case was selected
  124  run limit
  125  the kernel could not be built or booted (git bisect run: skip)
  130  interrupted
Of several kernels it is the first of 130, 2, 1, 124, 125, 3, 0, 4 that one of them ended with: one
that lacks the feature takes nothing from those that have it.
With --build, 124 becomes 1 (the kernel hangs) and 2, 3 and 4 become 125: they are no verdict.
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


def _days(text: str) -> float:
    value = float(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"not a number of days: {text}")
    return value


def _guest_options(
    verb: argparse.ArgumentParser, users: tuple[str, ...] = ("root", "nobody")
) -> None:
    """The options of every verb that boots a kernel."""
    verb.add_argument(
        "--backend",
        choices=("auto", "qemu", "uml", "virtme-ng"),
        default="auto",
        help="what the kernel runs in (default: what fits it; QEMU where there is a choice);"
        " virtme-ng is the vng program, on PATH or installed on the spot",
    )
    verb.add_argument(
        "--user",
        choices=users,
        default="root",
        help="whose rights there are in the guest (default: root)"
        + ("; `user` is an ordinary account, with --system" if "user" in users else ""),
    )
    verb.add_argument(
        "--memory",
        type=_whole,
        metavar="MIB",
        help="of each guest (default: 1024; 512 for User-Mode Linux; 2048 with --system)",
    )
    verb.add_argument(
        "--cpus",
        type=_whole,
        metavar="N",
        help="of each guest (default: 1; 2 with --system)",
    )
    verb.add_argument(
        "--append",
        action="append",
        default=[],
        metavar="WORDS",
        help="add to the end of the kernel's command line (--append 'slub_debug=FZP lsm=');"
        " --dry-run shows what else it is told, most of it to be quick where it is emulated",
    )
    verb.add_argument(
        "--boot-limit",
        type=_seconds,
        metavar="SECONDS",
        help="until the guest first answers (default: 120; 900 with --system)",
    )


def _run_limit(verb: argparse.ArgumentParser) -> None:
    """The option of those that come to an end by themselves."""
    verb.add_argument(
        "--run-limit",
        type=_seconds,
        metavar="SECONDS",
        help="from then on (default: 900; 7200 with --system)",
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
        epilog=system_options.HELP + _BUILD + _EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument(
        "--kernel",
        action="append",
        metavar="K",
        help="a bzImage, a vmlinux, a User-Mode Linux binary, a build tree, a package as"
        " debian[:SUITE][/FLAVOUR][=VERSION], or `host` for the running kernel's image; may be"
        " given several times (default: the newest packaged kernel that has the flag)",
    )
    verb.add_argument(
        "--build", action="store_true", help="build the tree that --kernel names first (see below)"
    )
    verb.add_argument(
        "--debug-kernel",
        action="store_true",
        help="with --build: with lockdep, KASAN, kmemleak, fault injection and the checks of lists"
        " and of the VFS (vm/kernel/configs/debug.config)",
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
        help="share the cases among N guests of the kernel (default: one per processor, at most 4;"
        " with several kernels as many as there are processors for each); pytest's own lines of"
        " each are in pytest.log",
    )
    verb.add_argument(
        "--jobs",
        type=_whole,
        metavar="N",
        help="of several kernels run N at the same time (default: what the processors have guests"
        " for)",
    )
    verb.add_argument(
        "--repeat",
        type=_whole,
        default=1,
        metavar="N",
        help="run each kernel's cases N times, each time in a guest of its own (default: 1)",
    )
    _guest_options(verb, ("root", "nobody", "user"))
    _run_limit(verb)
    system_options.add(verb)
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
    _run_limit(verb)
    verb = verbs.add_parser(
        "shell",
        help="a prompt in a guest, with the suite at hand",
        description=_SHELL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--kernel", default="", metavar="K", help="as for run")
    _guest_options(verb)
    verb = verbs.add_parser("check", help="run the project's own tests (`--` passes words to tox)")
    verb = verbs.add_parser(
        "kernels",
        help="list kernels in the cache and those to be had",
        description="List what --kernel takes: the kernels in the cache, and those of a suite.",
    )
    verb.add_argument("suite", nargs="?", help="a Debian suite to look into (trixie-backports)")
    verb.add_argument(
        "--prune",
        nargs="?",
        type=_days,
        const=30.0,
        metavar="DAYS",
        help="remove what no run has used for DAYS days from the cache: packages, and what --build"
        " built there (default: 30; 0: whatever is not in use now)",
    )
    return top
