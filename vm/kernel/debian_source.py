# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's source as Debian packages it, fetched and unpacked in the cache."""

from __future__ import annotations

import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from vm import arch, paths
from vm.distro import apt, archive
from vm.errors import Problem
from vm.kernel.debian import version_key
from vm.terminal import say

_PREFIX = "linux-source-"
#: The series that the catalogue of faults is written for.
SERIES = "7.3"


def folder() -> Path:
    """Return where the cache keeps them: SUITE/VERSION."""
    return paths.cache() / "sources"


def get(series: str = SERIES) -> Path:
    """Return the folder with the source of the newest kernel of *series* that a suite has.

    :raises Problem: no suite has one and none is in the cache, or no mirror can be reached.
    """
    name, reasons = _PREFIX + series, []
    with paths.locked("sources"):
        for suite in archive.default_suites():
            try:
                state, own = archive.state(suite, arch.native().processor)
                if name in state.names(_PREFIX):
                    return _unpacked(state, own, name)
            except apt.Unreachable as problem:
                reasons.append(str(problem))
                break
            except Problem as problem:
                reasons.append(f"{suite}: {problem.what}")
                continue
            reasons.append(f"{suite}: none")
        if cached := list(folder().glob(f"*/{series}*")):
            return max(cached, key=lambda path: version_key(path.name.partition("-")[0]))
    raise Problem(
        f"cannot fetch {name}, the kernel's source: {'; '.join(reasons)}\n"
        "hint: give a source tree with --kernel TREE"
    )


def _unpacked(state: apt.Apt, suite: str, name: str) -> Path:
    package = state.package(name)

    def make(draft: Path) -> None:
        within = draft.with_name("package")
        state.unpack([package], within, f"{name} {package.version} from {suite}")
        archives = sorted(within.glob("usr/src/*.tar.*"))
        if not archives:
            raise Problem(f"{name} {package.version}: no source in this package")
        say(f"unpacking {archives[0].name} ...")
        with tarfile.open(archives[0]) as file:
            # The first releases of Python 3.11 have no filters, and would warn of none.
            filters: dict[str, Any] = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}
            file.extractall(within / "source", **filters)
        (top,) = (within / "source").iterdir()
        top.rename(draft)

    place = paths.entry(folder() / suite / package.version, make)
    with suppress(OSError):  # another user's cache
        place.touch()
    return place
