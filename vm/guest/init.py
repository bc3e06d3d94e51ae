# SPDX-License-Identifier: GPL-2.0-only
"""Runs in the guest as process 1: mounts what a Linux system has, runs pytest, tells the host.

It is started by the kernel from the initramfs with nothing around it: no shell, no libraries but
Python's. What to run stands in /vm/job.json; the report goes to a second serial line, which the
kernel's command line names. pytest runs in a forked child of this process: an interpreter already
started is half a second saved under emulation.
"""

from __future__ import annotations

import codecs
import ctypes
import os
import re
import select
import signal
import sys
import time
import tty
from contextlib import suppress

_BEGIN = time.clock_gettime(time.CLOCK_BOOTTIME)

sys.dont_write_bytecode = True
sys.path[:0] = ["/vm/launcher", "/vm/site"]

from vm.guest import coverage  # noqa: E402 - it lies where the line above points
from vm.guest.channel import Channel  # noqa: E402
from vm.guest.protocol import COMPLETE, Kind  # noqa: E402
from vm.guest.protocol import load as load_job  # noqa: E402

#: <linux/reboot.h>. QEMU ends on a restart (-no-reboot), User-Mode Linux on power-off.
_REBOOT = {"restart": 0x01234567, "poweroff": 0x4321FEDC}
#: Characters of kmemleak's report that are read: some ten leaks.
_MOST_LEAKS = 10_000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, target: str, flags: int = 0, options: str = "") -> None:
    """mount(2) a file system of this kind on *target*, made when missing."""
    os.makedirs(target, exist_ok=True)
    if _libc.mount(kind.encode(), target.encode(), kind.encode(), flags, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def mount_all() -> None:
    """Mount what cases may expect; what is optional only where the kernel has it."""
    mount("devtmpfs", "/dev", _MS_NOSUID)
    mount("proc", "/proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    mount("tmpfs", "/tmp", _MS_NOSUID | _MS_NODEV, "mode=1777")
    mount("tmpfs", "/run", _MS_NOSUID | _MS_NODEV, "mode=755")
    with suppress(OSError):
        mount("sysfs", "/sys", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for kind, target, options in (
        ("devpts", "/dev/pts", "ptmxmode=666"),
        ("tmpfs", "/dev/shm", "mode=1777"),
        ("debugfs", "/sys/kernel/debug", ""),
        ("tracefs", "/sys/kernel/tracing", ""),
        ("securityfs", "/sys/kernel/security", ""),
    ):
        with suppress(OSError):
            mount(kind, target, _MS_NOSUID | _MS_NOEXEC, options)
    with suppress(OSError):
        os.chmod("/dev/fuse", 0o666)  # as every distribution has it
    for name, target in (("fd", "self/fd"), ("stdin", "self/fd/0"), ("stdout", "self/fd/1")):
        with suppress(OSError):
            os.symlink(f"/proc/{target}", f"/dev/{name}")
    with suppress(OSError):
        os.symlink("/proc/self/fd/2", "/dev/stderr")


def write(path: str, text: str) -> None:
    """Set one of the kernel's values, where it has it."""
    with suppress(OSError), open(path, "w", encoding="ascii") as file:
        file.write(text)


def read(path: str) -> str:
    """Return the contents of a small file, empty when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def load(path: str) -> str:
    """Load a kernel module; the error's text, empty when there was none."""
    with open(path, "rb") as file:
        data = file.read()
    # In the C library, if in none of its headers; finit_module(2) is not.
    if _libc.init_module(data, ctypes.c_ulong(len(data)), b""):
        return os.strerror(ctypes.get_errno())
    return ""


def told() -> dict[str, str]:
    """Return the words of the kernel's command line that have a value."""
    words = (word.partition("=") for word in read("/proc/cmdline").split())
    return {name: value for name, _, value in words}


def leaks() -> str:
    """Return what kmemleak found that nothing points at any more; empty without kmemleak.

    Its own first look comes a minute after boot, when most runs are over. A finding is a line on
    the console too.
    """
    path = "/sys/kernel/debug/kmemleak"
    if os.path.exists(path):
        write(path, "scan")
    return read(path)[:_MOST_LEAKS]


def open_raw(path: str) -> int:
    """Open a serial line as it is: no echo, no line-end conversion, no signals."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    tty.setraw(fd)
    return fd


def environment(packages: dict[str, str], user: str, system: str = "") -> dict[str, object]:
    """Return what a bug report about this kernel would need."""
    name = os.uname()
    return {
        "release": name.release,
        "version": name.version,
        "machine": name.machine,
        "cmdline": read("/proc/cmdline"),
        "taint": int(read("/proc/sys/kernel/tainted") or 0),
        "lsm": read("/sys/kernel/security/lsm"),
        "python": sys.version.split()[0],
        "packages": packages,
        "modules": [line.split()[0] for line in read("/proc/modules").splitlines()],
        "cpus": os.cpu_count(),
        "user": user,
        "system": system,
    }


def started_at() -> dict[str, float]:
    """Return when, in seconds after the kernel's start, it handed over to this program, and when
    Python was ready to run it."""
    found = {"python": round(_BEGIN, 3)}
    text = ctypes.create_string_buffer(1 << 18)
    size = _libc.klogctl(3, text, len(text))  # SYSLOG_ACTION_READ_ALL
    match = re.search(
        rb"\[ *(\d+\.\d+)\][^\n]* Run /init as init process", text.raw[: max(0, size)]
    )
    if match:
        found["kernel"] = float(match[1])
    return found


def begin() -> None:
    """Take the console, once /dev is mounted; see that the kernel had the memory for the image."""
    # The kernel opened the initramfs's node, if it had one.
    console = os.open("/dev/console", os.O_RDWR | os.O_NOCTTY)
    for fd in (0, 1, 2):
        os.dup2(console, fd)
    if console > 2:
        os.close(console)
    if not os.path.exists(COMPLETE):
        raise SystemExit("vm: image not fully unpacked: the guest needs more memory (--memory)")


def pipes() -> tuple[int, int, int, int]:
    """Return both ends of a pipe for output, and of one that a child's end writes to."""
    source, output = os.pipe()
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker)
    return source, output, wake, waker


def pump(channel: Channel, source: int, wake: int, child: int) -> int:
    """Send on what pytest prints until it ends; reap orphans; the child's exit status."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    watch = select.poll()
    watch.register(source, select.POLLIN)
    watch.register(wake, select.POLLIN)
    result = None
    while True:
        # What a stray grandchild might print for ever is not waited for once pytest is gone.
        ready = [fd for fd, _ in watch.poll(None if result is None else 0)]
        if source in ready:
            if data := os.read(source, 65536):
                channel.send(Kind.TEXT, text=decoder.decode(data))
            else:
                watch.unregister(source)
        if wake in ready:
            os.read(wake, 512)
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
                if ended.si_pid == child:
                    died = ended.si_code != os.CLD_EXITED
                    result = -ended.si_status if died else ended.si_status
                    watch.unregister(wake)
                    break
        if result is not None and source not in ready:
            return result


def end(how: str) -> None:
    """End the guest: *how* is the word `vm.end` of the kernel's command line."""
    _libc.reboot(_REBOOT[how])
    signal.pause()


def main() -> None:
    """Be process 1, from the first mount to the end."""
    mount_all()
    begin()
    job = load_job()
    for path, text in job.files.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    words = told()
    line = open_raw(words["vm.report"])
    channel = Channel(line, job.nonce, "init")
    errors = {path: error for path in job.modules if (error := load(path))}
    about = environment(job.packages, job.user)
    channel.send(Kind.HELLO, drain=True, environment=about, started=started_at())
    for path, error in errors.items():
        channel.send(Kind.TEXT, text=f"module {os.path.basename(path)} not loaded: {error}\n")
    write("/proc/sys/kernel/printk", "8")  # from here on the console has every message
    # A forked child meets each page of program text again: take many at a time. A sixth of the
    # time of a case under emulation.
    write("/sys/kernel/debug/fault_around_bytes", str(1 << 20))
    if job.coverage:
        with suppress(OSError):  # the host sees that nothing comes
            coverage.reset()
    source, output, wake, waker = pipes()
    child = os.fork()
    if child == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (source, wake, waker):
            os.close(fd)
        from vm.guest import program

        program.run(job, words["vm.share"], line, output)
    os.close(output)
    status = pump(channel, source, wake, child)
    if found := leaks():
        channel.send(Kind.TEXT, text=f"kmemleak: {found}\n")
    if job.coverage:
        coverage.send(channel)
    channel.send(Kind.END, drain=True, status=status)
    os.sync()
    end(words["vm.end"])


if __name__ == "__main__":
    main()
