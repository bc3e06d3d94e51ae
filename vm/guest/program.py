# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest, in a child of process 1: what the guest is there for."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import struct
import sys
import termios
import traceback
from typing import NoReturn

from vm.guest.channel import Channel
from vm.guest.protocol import Job, Kind

#: <linux/prctl.h>, <asm/ioctls.h>.
_PR_SET_DUMPABLE, _TIOCSCTTY, _TIOCSWINSZ = 4, 0x540E, 0x5414


def run(job: Job, share: str, line: int, output: int) -> NoReturn:
    """Become the user asked for, run the program with *output* as its output and exit with its
    status. *line* leads to the host."""
    status = 3
    try:
        os.setsid()
        if job.program == "shell" and job.terminal:
            _take_terminal(*job.terminal)
        else:
            for fd in (1, 2):
                os.dup2(output, fd)
        # Written through at once, so that what was printed before a crash is seen.
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", write_through=True)
        os.close(output)
        os.chdir(job.folder)
        os.environ.clear()
        os.environ.update(job.environment)
        if job.user != "root":
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            # Else /proc/self belongs to root: a change of credentials makes a process undumpable.
            ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        channel = Channel(line, job.nonce, "program")
        if job.program == "shell":
            channel.send(Kind.READY, drain=True)
            os.execv(job.arguments[0], job.arguments)
        sys.path.insert(0, job.folder)  # for tests.utils, as pytest itself will do
        # Slow imports, so here: hello has been said.
        if job.program == "bench":
            from vm.guest import bench

            status = bench.run(job.arguments, channel)
        else:
            from vm.guest import reporter

            channel.send(Kind.READY)
            status = reporter.run(job.arguments, channel, share, job.only)
    except SystemExit as end:  # a wrong argument, or a page of help
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _take_terminal(rows: int, columns: int) -> None:
    """Make the console the terminal of this session, with the size of the one at the host."""
    with open("/sys/class/tty/console/active", encoding="ascii") as file:
        name = file.read().split()[-1]  # the one that /dev/console stands for
    fd = os.open(f"/dev/{name}", os.O_RDWR)
    fcntl.ioctl(fd, _TIOCSCTTY, 1)
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    settings = termios.tcgetattr(fd)
    settings[0] |= termios.ICRNL
    settings[3] |= termios.ISIG | termios.ICANON | termios.ECHO | termios.ECHOE | termios.IEXTEN
    termios.tcsetattr(fd, termios.TCSANOW, settings)
    for target in (0, 1, 2):
        os.dup2(fd, target)
