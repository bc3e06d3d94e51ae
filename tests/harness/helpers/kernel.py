# SPDX-License-Identifier: GPL-2.0-only
"""A stand-in for the kernel's log and taint, so that nothing gets into the machine's own."""

from __future__ import annotations

from pathlib import Path

#: Goes with the cases: where log and taint are, and a way to write them as a kernel does.
CONFTEST = """
import os
from pathlib import Path
from tests.utils.watch import kernel_log
HERE = Path(__file__).parent
kernel_log.LOG, kernel_log.TAINT = HERE / "kmsg", HERE / "tainted"
LOG = os.open(HERE / "kmsg", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
TAINT = os.open(HERE / "tainted", os.O_WRONLY | os.O_CLOEXEC)
def say(*lines):
    for line in lines:
        number = os.lseek(LOG, 0, os.SEEK_END)
        os.write(LOG, f"4,{number},1500000,-;{line}\\n SUBSYSTEM=none\\n".encode())
def say_as_a_program(line):
    os.write(LOG, f"{1 << 3 | 4},{os.lseek(LOG, 0, os.SEEK_END)},1500000,-;{line}\\n".encode())
def taint(mask): os.pwrite(TAINT, f"{mask}\\n".encode(), 0)
def task():
    name = open("/proc/self/comm").read().strip()
    return f"CPU: 0 UID: 0 PID: 1 Comm: {name} Not tainted"
"""
WARNING = "WARNING: fs/namespace.c:1 at x+0x1/0x2, CPU#0: nobody"


def stand_in(folder: Path) -> None:
    """Have the cases in *folder* find their kernel's log there; something is in it already."""
    (folder / "kmsg").write_text("4,0,1,-;WARNING: before the run\n")
    (folder / "tainted").write_text("512\n")
    (folder / "conftest.py").write_text(CONFTEST)


def add(log: Path, number: int, text: str, facility: int = 0) -> None:
    """Add one message to the log: the kernel's, or a program's (*facility* is not 0)."""
    with log.open("a") as file:
        file.write(f"{facility << 3 | 4},{number},1000000,-;{text}\n")
