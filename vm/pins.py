# SPDX-License-Identifier: GPL-2.0-only
"""Which releases the private environments install, by the hashes in requirements.lock."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vm.errors import Problem

LOCK = Path(__file__).parent / "requirements.lock"
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def normal(name: str) -> str:
    """Return *name* as the index has it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _entries() -> dict[str, tuple[str, set[str]]]:
    """Return for each package of the lock its lines for pip, and the packages that ask for it."""
    found = {}
    # An entry begins in the first column, and its comments name who asks for it.
    for entry in re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text()):
        if match := _NAME.match(entry):
            lines, _, asking = entry.partition("    # via")
            askers = {normal(name) for name in _NAME.findall(asking.replace("#", " "))}
            found[normal(match[0])] = lines, askers
    return found


def pinned(wanted: Iterable[str]) -> str:
    """Return a requirements file for pip's --require-hashes: *wanted*, and what they ask for.

    :param wanted: requirements as pyproject.toml has them.
    :raises Problem: one of them is not in the lock.
    """
    entries = _entries()
    chosen = {normal(match[0]) for word in wanted if (match := _NAME.match(word))}
    if missing := chosen - entries.keys():
        raise Problem(
            f"{LOCK} does not have {', '.join(sorted(missing))}\nhint: renew it, as its head says"
        )
    while more := {name for name, (_, askers) in entries.items() if askers & chosen} - chosen:
        chosen |= more
    return "\n".join(entries[name][0] for name in sorted(chosen))
