# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel is built with that counts which of its lines run: gcc's own counters (gcov)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from functools import cache

from vm.errors import Problem
from vm.process import output


@cache
def flags() -> tuple[str, ...]:
    """Return what the kernel's own CFLAGS_GCOV has, and what keeps each line of code apart.

    gcc counts what is left of a function after its first passes. They have `return -EINVAL;`
    become part of a choice between numbers, a line without code: half of all returns would. And
    they have a jump skip a condition whose outcome an earlier one has settled.
    """
    compiler = os.environ.get("CC", "gcc").split()
    found = ["-fprofile-arcs", "-ftest-coverage", "-fno-tree-loop-im"]
    found.append("-fprofile-update=prefer-atomic")  # processors do not lose each other's counts
    for name in ("ccp1", "forwprop1", "fre1", "evrp", "ethread", "phiopt1", "cddce1"):
        flag = f"-fdisable-tree-{name}"
        with suppress(OSError):
            words = [*compiler, flag, "-S", "-x", "c", "/dev/null", "-o", "/dev/null"]
            if output(words).returncode == 0:  # another gcc may have no pass of that name
                found.append(flag)
    return tuple(found)


def require(have: Mapping[str, str]) -> None:
    """Raise Problem where a kernel with the options *have* does not count as gcc does."""
    if have.get("GCOV_KERNEL") != "y":
        raise Problem("--coverage: this kernel cannot be built with CONFIG_GCOV_KERNEL")
    if have.get("CC_IS_GCC") != "y":
        raise Problem(
            "--coverage: built with another compiler than gcc, whose counters are read here\n"
            "hint: leave LLVM and CC unset"
        )
