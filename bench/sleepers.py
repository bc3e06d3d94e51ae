# SPDX-License-Identifier: GPL-2.0-only
"""Sleeping tasks: pivot_root(2) looks at every task of the system, whatever it does.

They are threads of one process, which costs the system less than processes would: the kernel's
walk, for_each_process_thread(), takes one like the other. They are made by clone(2) itself, with a
stack of a kilobyte and the C library's pause(3) for all they do.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, Pipe

from bench.calls import bound, function_address
from bench.workers import INTERRUPTS, WorkersFailed, fork

#: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM of linux/sched.h: as pthread_create(3) has it.
_THREAD = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000
_STACK = 1024


def _sleep(count: int, line: Connection) -> None:
    """Be *count* sleeping tasks, and say so to *line*; the signals of a user are blocked here."""
    clone, pause = bound("clone", "clone"), ctypes.c_void_p(function_address("pause"))
    stacks = ctypes.create_string_buffer(count * _STACK + 16)
    top = (ctypes.addressof(stacks) + 15) & ~15
    for _ in range(count - 1):
        top += _STACK
        clone(pause, ctypes.c_void_p(top), _THREAD, None)
    line.send(count)
    while True:
        signal.pause()


@contextmanager
def sleeping(count: int) -> Iterator[None]:
    """Have *count* tasks more sleep on the system during the block.

    :raises WorkersFailed: there may not be as many.
    """
    if not count:
        yield
        return
    ours, theirs = Pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        with theirs:
            pid = fork(lambda: _sleep(count, theirs), theirs)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _receive(ours, count)
            yield
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        ours.close()


def _receive(line: Connection, count: int) -> None:
    """Wait until they sleep."""
    try:
        answer = line.recv()
    except EOFError:
        raise WorkersFailed(
            f"the process of {count} sleeping tasks has died, as it does where memory runs out\n"
            "hint: fewer --tasks, or more memory (in a guest: --memory, before the --)"
        ) from None
    if isinstance(answer, WorkersFailed):
        raise answer
