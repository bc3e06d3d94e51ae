# SPDX-License-Identifier: GPL-2.0-only
"""The options of `faults`."""

from __future__ import annotations

import argparse

from bench.grammar import count, path
from vm.commands.guest_options import kernel


def add(verb: argparse.ArgumentParser) -> None:
    """Add them to the verb."""
    verb.add_argument(
        "fault",
        nargs="*",
        metavar="FAULT",
        help="an id, a family, or a kind (hand, mechanical); may be a pattern, as '*pivot*'"
        " (default: all)",
    )
    verb.add_argument(
        "--kernel",
        type=kernel,
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
