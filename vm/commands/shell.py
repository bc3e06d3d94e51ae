# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm shell`: a prompt in a guest, with the suite at hand.

On a terminal the guest's console is typed at. From a pipe or a file the commands are read at once
and run as a script, and the exit status is the script's.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import tempfile
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from vm.backend.base import Backend
from vm.errors import Exit, Problem
from vm.initramfs import shell_tools
from vm.kernel.image import Kernel
from vm.report.verdict import judge
from vm.run.boot import Boots
from vm.run.guest import Guest, Limits, Stop, drive
from vm.run.plan import Options
from vm.terminal import Screen, say

#: Ctrl-], as telnet and `virsh console` have it.
_ESCAPE = b"\x1d"
_SCRIPT = "/run/script"
#: Bytes of keys that are kept for a guest that does not read.
_TYPED_AHEAD = 4096


def asked_for() -> str:
    """Return the script on standard input, empty for a prompt on the terminal. Raises Problem
    when there is neither."""
    if sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty():
        return ""
    text = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    if not text.strip():
        raise Problem(
            "shell: no terminal, and nothing on standard input\nhint: start it in a terminal, or"
            " give it commands: echo 'pytest -k covered' | python3 -m vm shell",
            Exit.USAGE,
        )
    return text


def run(kernel: Kernel, backend: Backend, options: Options, script: str) -> int:
    """Boot *kernel* and run *script* in its guest, or give the user its shell; the exit status.

    Raises Problem when the guest does not come up.
    """
    interactive = not script
    boots = Boots(kernel, backend, options)
    if not boots.processor.native:
        raise Problem(
            f"shell: its tools are this machine's own, and this guest's are for"
            f" {boots.processor.debian}\nhint: take a kernel for this machine's own processor",
            Exit.USAGE,
        )
    shell = shell_tools.shell()
    job = boots.job()
    job = replace(
        job,
        program="shell",
        terminal=list(shutil.get_terminal_size())[::-1] if interactive else [],
        files={_SCRIPT: script},
        arguments=[shell, _SCRIPT] if script else [shell, "-i"],
        environment={**job.environment, "PS1": f"[{kernel.release or 'guest'}] \\w \\$ "},
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="vm-")))
        boots.prepare(folder)
        image = boots.image(job, shell_tools.archive(boots.runtime))
        if interactive:
            say(f"booting {kernel.origin} in {backend.name}; exit or Ctrl-] ends it")
        machine = replace(options.machine, interactive=interactive)
        keyboard, keys = os.pipe()
        stack.callback(os.close, keyboard)
        stack.callback(os.close, keys)
        screen = Screen()
        console = folder / "console.log"
        guest = boots.start(image, machine, stack, console, screen.text, keyboard)
        limits = Limits(options.limits.boot, math.inf)
        if interactive:
            guest.listener = _echo
            os.set_blocking(keys, False)
            with _raw(sys.stdin.fileno()):
                drive([guest], limits, others={0: partial(_type, keys, guest)})
            print()
        else:
            drive([guest], limits)
            screen.close()
        return _status(guest)


@contextmanager
def _raw(fd: int) -> Iterator[None]:
    """The terminal passes on every key, within the block."""
    settings = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSANOW)
        yield
    finally:
        with suppress(termios.error):  # it is closed
            termios.tcsetattr(fd, termios.TCSAFLUSH, settings)


def _type(keys: int, guest: Guest) -> None:
    """Pass on what was typed."""
    data = os.read(0, _TYPED_AHEAD)
    if _ESCAPE in data or not data:
        guest.kill()
        return
    with suppress(BlockingIOError):  # it has not read for long: lost, as on any full line
        os.write(keys, data)


def _echo(data: bytes) -> None:
    with suppress(OSError):  # the terminal is gone, and a signal on its way that says so
        while data:
            data = data[os.write(1, data) :]


def _status(guest: Guest) -> int:
    status = guest.records.status
    if status is not None:
        return status if status >= 0 else 128 - status
    if guest.ending.killed_by and guest.ending.stop is Stop.EXITED:
        return Exit.INTERRUPTED
    if guest.ending.trouble:
        raise Problem(guest.ending.trouble)
    verdict = judge(guest.records, guest.ending, guest.log.lines())
    raise Problem(verdict.text, verdict.status)
