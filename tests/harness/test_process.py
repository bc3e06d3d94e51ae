# SPDX-License-Identifier: GPL-2.0-only
"""A fork without what Python does about it: what it leaves out, and when it must not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOK = """
import os, resource, sys, threading, warnings
from tests.utils.process import fork

hooks = []
os.register_at_fork(after_in_child=lambda: hooks.append(1))

def forked():
    pid = fork()
    if pid == 0:
        threading.Thread(target=lambda: None).start()  # its locks are free
        os._exit(10 + len(hooks))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - 10
"""


def run(program: str) -> str:
    """What a Python of its own, with one thread, prints."""
    done = subprocess.run(
        [sys.executable, "-c", HOOK + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.strip()


def test_what_is_registered_is_left_out() -> None:
    assert run("print(forked(), forked())") == "0 0"


def test_with_another_thread_it_is_pythons_own() -> None:
    program = """
warnings.simplefilter("ignore")
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
print(forked())
stop.set()
thread.join()
print(forked())
"""
    assert run(program).split() == ["1", "0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become one who is limited")
def test_an_error_has_its_errno() -> None:
    program = """
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setresuid(65534, 65534, 65534)
try:
    fork()
except OSError as error:
    print(error.errno, error.strerror)
"""
    assert run(program) == f"{errno.EAGAIN} {os.strerror(errno.EAGAIN)}"
