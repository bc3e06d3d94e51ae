# SPDX-License-Identifier: GPL-2.0-only
"""The options of a run in a complete system: their help, and which go together."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from bench.grammar import path
from vm import paths
from vm.errors import Exit, Problem
from vm.guest.disturb import COMMANDS
from vm.run.system import System, parse

#: Below the options.
HELP = """--system:
  Validates a kernel with its user space. The system is built from packages once and kept in the
  cache; nothing is installed here, and no run changes it: systemd, udev, D-Bus, the distribution's
  own Python and pytest, on ext4. When it is up, plain pytest runs in a login session, of root or
  with --user user of an ordinary user; --user nobody has no home. With --beside other things go on
  meanwhile, as on a machine in use:

    login        somebody logs in and out        namespace    a file keeps a mount namespace
    credentials  a service with credentials      mounts       mount and umount in the system's table
    tmpfiles     systemd-tmpfiles-clean          bubblewrap   a container without privileges
    holder       descriptors of new namespaces   monitor      reads every process's mount table
    neighbours   goes from one mount namespace to the next (NS_MNT_GET_NEXT)
    suite        pytest once more; its failures count

    python3 -m vm run --system debian:trixie --beside all --repeat 5 -- -n 2

"""


def _names(text: str) -> tuple[str, ...]:
    found = tuple(COMMANDS) if text == "all" else tuple(text.split(","))
    if unknown := [name for name in found if name not in COMMANDS]:
        known = ", ".join(("all", *COMMANDS))
        raise argparse.ArgumentTypeError(f"no {unknown[0]!r} is known here: {known}")
    return found


def add(verb: argparse.ArgumentParser) -> None:
    """Add the options of a run in a complete system."""
    group = verb.add_argument_group("in a complete system")
    group.add_argument(
        "--system",
        metavar="S",
        help="boot a complete system around the kernel, debian[:SUITE], and run pytest there"
        " (default suite: trixie; see below)",
    )
    group.add_argument(
        "--beside",
        type=_names,
        default=(),
        metavar="NAMES",
        help="with --system: what else goes on in it meanwhile, names with commas between, or all",
    )
    group.add_argument(
        "--checkout",
        type=path,
        metavar="DIR",
        help="with --system: the checkout whose cases run (default: the one this program is of)",
    )


def chosen(arguments: argparse.Namespace) -> System | None:
    """Return the system of a run, None for none. Raises Problem when options do not fit."""
    if arguments.system is None:
        for name, given in (("--beside", arguments.beside), ("--checkout", arguments.checkout)):
            if given:
                raise Problem(f"{name} needs --system\nhint: --system debian:trixie", Exit.USAGE)
        if arguments.user == "user":
            raise Problem(
                "--user user: an initramfs has no such account\n"
                "hint: --user nobody, or --system debian:trixie",
                Exit.USAGE,
            )
        return None
    if arguments.backend == "virtme-ng":
        raise Problem(
            "--system: virtme-ng gives the host's own files to a guest\n"
            "hint: leave --backend out, or --backend qemu",
            Exit.USAGE,
        )
    checkout = Path(os.path.expanduser(arguments.checkout or paths.ROOT)).resolve()
    if not (checkout / "tests/open_tree_ns").is_dir():
        raise Problem(
            f"--checkout {checkout}: no tests/open_tree_ns there\n"
            "hint: give the top folder of a checkout",
            Exit.USAGE,
        )
    return System(parse(arguments.system), checkout, arguments.beside)
