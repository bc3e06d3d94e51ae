# SPDX-License-Identifier: GPL-2.0-only
"""Runs of isolated cases whose end is awaited, and the sign that none was lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT, SuiteRun

NEXT = "\ndef test_next(): pass\n"


def assert_complete(run: SuiteRun) -> None:
    """Each item has one report per phase, and test_next has passed."""
    seen = [(report.nodeid, report.when) for report in run.reports]
    assert len(seen) == len(set(seen))
    assert [when for nodeid, when in seen if nodeid.endswith("test_next")] == [
        "setup",
        "call",
        "teardown",
    ]
    assert run.report("test_next").passed


@contextmanager
def a_running_suite(path: Path, mark: str = "") -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """pytest with a case that hangs, and a descriptor whose end shows that the case is gone."""
    path.write_text(
        HEADER
        + mark
        + """
def test_hangs():
    if os.fork() == 0: signal.pause()
    os.write(int(os.environ["NOTE"]), b"x")
    signal.pause()
"""
    )
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *PLUGIN, str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "NOTE": str(write_end)},
        pass_fds=[write_end],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(write_end)
    try:
        assert os.read(read_end, 1) == b"x"
        yield process, read_end
    finally:
        process.kill()
        process.wait()
        os.close(read_end)
