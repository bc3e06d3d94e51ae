# SPDX-License-Identifier: GPL-2.0-only
"""Starts the programs that run a guest so that none outlives the launcher, however that ends."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from vm.errors import Interrupted, Problem

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
#: Seconds for a killed process to go away before the launcher says that it did not.
_KILL_WAIT = 5.0


def _before_exec(processor: int | None) -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processor is not None:
        os.sched_setaffinity(0, {processor})


@contextmanager
def started(
    command: Sequence[str],
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    processor: int | None = None,
    stderr: int = subprocess.PIPE,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[bytes]]:
    """A running program with its output in pipes and, by default, nothing on its input.

    It leads a process group of its own, which is killed when the block is left. *processor* is the
    number of the only one it may run on.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            pass_fds=pass_fds,
            env={**os.environ, **(environment or {})},
            cwd=folder,
            process_group=0,
            preexec_fn=partial(_before_exec, processor),  # noqa: PLW1509 - the launcher has no threads
        )
    except OSError as error:
        raise Problem(f"cannot start {command[0]}: {error.strerror}") from None
    try:
        yield process
    finally:
        kill(process)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its group, whether or not it has ended by itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        process.wait(_KILL_WAIT)
    except subprocess.TimeoutExpired:
        print(f"vm: process {process.pid} cannot be killed; it is left behind", flush=True)


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted within the block, once."""

    def stop(number: int, frame: FrameType | None) -> None:
        for other in old:
            signal.signal(other, signal.SIG_IGN)  # a second one must not cut the clean-up short
        raise Interrupted(signal.Signals(number).name)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
