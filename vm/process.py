# SPDX-License-Identifier: GPL-2.0-only
"""Starts the programs that run a guest so that none outlives the launcher, however that ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from vm.errors import Interrupted, Problem

#: A shell that reads a process group's number from a pipe and kills the group when the pipe closes:
#: once the program runs, the launcher alone holds it open, so that is when the launcher dies.
WATCH = (
    "sh",
    "-c",
    'trap "" HUP INT TERM; read -r group && { read -r _; kill -s "$0" -- "-$group"; }',
)
#: Seconds for a killed process to go away before the launcher says that it did not.
_KILL_WAIT = 5.0


def _before_exec(processor: int | None, watched: int) -> None:
    # Said by the program itself, before it is one: from its first instruction on it is watched.
    os.write(watched, b"%d\n" % os.getpid())
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if processor is not None:
        os.sched_setaffinity(0, {processor})


@dataclass(frozen=True)
class Program:
    """A running program, and the watch over it and all that it starts."""

    process: subprocess.Popen[bytes]
    watch: subprocess.Popen[bytes]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program and all that it has started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """Kill them all, whether or not the program has ended by itself."""
        self.send(signal.SIGKILL)
        self.watch.kill()
        for process in (self.process, self.watch):
            try:
                process.wait(_KILL_WAIT)
            except subprocess.TimeoutExpired:
                print(
                    f"vm: process {process.pid} was killed and has not ended after"
                    f" {_KILL_WAIT:g} s; it is left to end by itself",
                    file=sys.stderr,
                    flush=True,
                )


@contextmanager
def started(
    command: Sequence[str],
    pass_fds: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    processor: int | None = None,
    stderr: int = subprocess.PIPE,
    stdin: int = subprocess.DEVNULL,
    ending: signal.Signals = signal.SIGKILL,
) -> Iterator[Program]:
    """Start a program, its output in pipes and, by default, nothing on its input.

    It and all that it starts are killed when the block is left, and sent *ending* when the launcher
    is killed. *processor* is the number of the only one it may run on.
    """
    end, held = os.pipe()
    with open(held, "wb") as launcher_lives:
        with open(end, "rb"):
            watch = _popen(
                [*WATCH, ending.name.removeprefix("SIG")],
                stdin=end,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
        try:
            # The program leads the group: as its leader it cannot leave it for a session of its
            # own, which User-Mode Linux would do.
            process = _popen(
                command,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=pass_fds,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                process_group=0,
                preexec_fn=partial(_before_exec, processor, held),
            )
        except BaseException:
            launcher_lives.close()  # which has the watch end what may run already
            watch.wait()
            raise
        program = Program(process, watch)
        try:
            yield program
        finally:
            program.kill()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def output(
    command: Sequence[str | Path],
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end with nothing on its input; return its output, in the C locale.

    :raises FileNotFoundError: there is no such program.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", **(environment or {})},
    )


def stripped(elf: bytes, option: str) -> bytes:
    """Return *elf*, a program or a module, as strip(1) makes it with *option*; itself without."""
    with tempfile.NamedTemporaryFile(prefix="vm-") as file:
        file.write(elf)
        file.flush()
        try:
            failed = output(["strip", option, file.name]).returncode
        except OSError:
            failed = 1
        return elf if failed else Path(file.name).read_bytes()


def _popen(command: Sequence[str], **settings: Any) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, **settings)
    except OSError as error:
        raise Problem(f"cannot start {command[0]}: {error.strerror}") from None


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
