# SPDX-License-Identifier: GPL-2.0-only
"""Real control groups, for tests of what a container's limits do."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.utils.tasks.process import ended

#: Seconds that a process which was killed can take to go.
_DYING = 30.0


def _made(controller: str, limits: dict[str, str]) -> Path:
    """Return a new group with these limits: of the first version of groups, or of the second."""
    name = f"open-tree-namespace-tests-{uuid.uuid4().hex}"
    for top in (Path("/sys/fs/cgroup") / controller, Path("/sys/fs/cgroup")):
        with suppress(OSError):
            folder = top / name
            folder.mkdir()
            try:
                for file, text in limits.items():
                    (folder / file.replace("__", ".")).write_text(text)
            except OSError:  # not enabled here
                folder.rmdir()
            else:
                return folder
    pytest.skip(f"no group of the controller {controller} can be made here")


@contextmanager
def group(controller: str, **limits: str) -> Iterator[Path]:
    """A group of *controller*'s with these limits, where this machine lets us make one; it has
    ended with the block."""
    folder = _made(controller, limits)
    try:
        yield folder
    finally:
        for pid in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(int(pid))
                ended(handle, _DYING)
                os.close(handle)
        folder.rmdir()
