# SPDX-License-Identifier: GPL-2.0-only
"""The options of every verb that boots a kernel."""

from __future__ import annotations

import argparse
import shlex

from bench.grammar import EMPTY, count, mebibytes, seconds
from vm.arch import PROCESSORS
from vm.backend.choose import BACKENDS


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def kernel(text: str) -> str:
    """Return the name of a kernel, which must not be empty."""
    # The default kernel in place of the one that was meant would be a verdict on the wrong one.
    if not text.strip():
        raise argparse.ArgumentTypeError(EMPTY)
    return text


def add(
    verb: argparse.ArgumentParser, whole: bool = False, measured: bool = False
) -> argparse._ArgumentGroup:
    """Add the options of every verb that boots a kernel; return their group.

    :param whole: it may also boot a complete system, which has defaults of its own.
    :param measured: it measures the kernel, which takes more memory in User-Mode Linux.
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
        help="memory of each guest in MiB, or as 512M, 1G (default: 1024"
        f"{'' if measured else '; 512 for User-Mode Linux'}{'; 2048 with --system' * whole})",
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


def add_run_limit(group: argparse._ArgumentGroup, whole: bool) -> None:
    """Add the option of those that come to an end by themselves."""
    group.add_argument(
        "--run-limit",
        type=seconds,
        metavar="SECONDS",
        help="give up on a guest that runs for more than SECONDS after it has booted; exit status"
        f" 124 (default: 900{'; 7200 with --system' * whole})",
    )
