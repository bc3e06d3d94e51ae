# SPDX-License-Identifier: GPL-2.0-only
"""Copy memory in one go that a fork would have copied page by page.

After a fork each page is copied when one of the two processes first writes to it, at the price of
a page fault: next to nothing on a processor, but half the time of a case in an emulated machine.
Most of the pages a case writes to are those the case before has written to (the interpreter's and
pytest's own), and a single process_madvise(2) copies them all for a fifth of the price.

Under User-Mode Linux the host has a part in each fault, and in each run of neighbouring pages that
a process maps: there it halves the time of a run. Under QEMU without KVM it is no gain, on a
processor nothing to speak of. So it is done in the first alone. All this is a matter of speed: what
the kernel refuses is left to page faults.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

from tests.utils.process import fork
from tests.utils.sandbox import quiet_fork
from tests.utils.syscalls import closing_fd

# linux/mman.h, 5.14: as if each page were written to.
_MADV_POPULATE_WRITE = 23
# Documentation/admin-guide/mm/pagemap.rst: a page that is present, in one process alone.
_PRESENT, _EXCLUSIVE, _FILE = 1 << 63, 1 << 56, 1 << 61

# linux/pidfd.h, 6.14: the caller. Before, process_madvise(2) knew nothing of _MADV_POPULATE_WRITE.
_PIDFD_SELF = -10000
_NR_PROCESS_MADVISE = 440
#: Ranges that one call takes at most (linux/uio.h).
_UIO_MAXIOV = 1024

#: A range: struct iovec, where addresses have 64 bits.
_PAIR = struct.Struct("<QQ")
_ENTRY = 8

#: Up to so many bytes between two pages to be copied are copied too, which makes one run of two.
_GAP = 4 * mmap.PAGESIZE
#: More than there is of free memory in small pieces, in bytes.
_PIECES = 32 << 20
#: For these and the copies of a pytest process, in bytes.
_ENOUGH = 128 << 20

_libc = ctypes.CDLL(None, use_errno=True)


def _copying(ranges: Iterable[tuple[int, int]]) -> Callable[[], object]:
    """What copies the memory in *ranges* (address and length) for the process that calls it."""
    # All is made ready here: what is done before the copying is done with page faults.
    pairs = [_PAIR.pack(*one) for one in ranges][:_UIO_MAXIOV]
    packed, count = b"".join(pairs), ctypes.c_size_t(len(pairs))
    advice = ctypes.c_long(_MADV_POPULATE_WRITE)
    return partial(_libc.syscall, _NR_PROCESS_MADVISE, _PIDFD_SELF, packed, count, advice, 0)


def _nothing() -> None:
    """What is done while it is not known what to copy."""


def faults_are_dear() -> bool:
    """Whether this is User-Mode Linux."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return "User Mode Linux" in file.read(4096)
    return False


def own() -> None:
    """Copy all memory that the caller shares with the process it was forked from.

    The copies lie side by side, which makes each fork of the caller cheaper in turn. Where little
    memory is free nothing is done.
    """
    if os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE < _ENOUGH:
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with suppress(OSError):
            _copy_all()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _copy_all() -> None:
    with closing_fd(_open_proc()) as proc:
        copy = _copying([(start, end - start) for start, end in _writable(proc)])
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
    # Small pieces are given out first. With them taken, the copies come from whole stretches.
    with mmap.mmap(-1, _PIECES, flags=flags):
        end, held = os.pipe()
        with closing_fd(end):
            with closing_fd(held):
                # A page that no other process has would stay where it is: let one have them all.
                with quiet_fork():
                    pid = fork()
                if pid == 0:
                    os.close(held)
                    os.read(end, 1)
                    os._exit(0)
                copy()
            os.waitpid(pid, 0)


def _open_proc() -> int:
    return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


class Habits:
    """Which pages the first cases wrote to, once it is known; shared with all processes forked."""

    #: How many cases to learn from.
    _LESSONS = 3
    _SPACE = 1 << 18

    def __init__(self, *, pay: bool) -> None:
        """:param pay: whether copying ahead pays; nothing is done otherwise."""
        self.pay = pay
        self._shared = mmap.mmap(-1, self._SPACE)
        self._ahead: Callable[[], object] | None = None

    def _known(self) -> tuple[int, set[int]]:
        """The lessons had, and the pages that were written to in any of them."""
        lessons, size = _PAIR.unpack_from(self._shared)
        pages: set[int] = set()
        for start, length in _PAIR.iter_unpack(self._shared[_PAIR.size : _PAIR.size + size]):
            pages.update(range(start, start + length, mmap.PAGESIZE))
        return lessons, pages

    def ahead(self) -> Callable[[], object]:
        """What a child that the caller forks for a case is to call before all else: it copies
        what the case is going to write to."""
        if self._ahead is not None:
            return self._ahead
        lessons, pages = self._known()
        if lessons < self._LESSONS:
            return _nothing
        ranges: list[tuple[int, int]] = []
        with suppress(OSError), closing_fd(_open_proc()) as proc:
            # Where there is no memory, which may be a case's own, the copying would end.
            for start, end in _writable(proc):
                ranges += _runs((page for page in pages if start <= page < end), _GAP)
        self._ahead = _copying(ranges)
        return self._ahead

    def learn(self, proc: int) -> None:
        """At the end of a case: note what the caller has written to.

        :param proc: a descriptor of the /proc to look in.
        """
        lessons, pages = self._known()
        if not self.pay or lessons == self._LESSONS:
            return
        # What one case in three writes to is worth copying for all.
        with suppress(OSError):
            pages.update(copied(proc))
        runs = b"".join(_PAIR.pack(*run) for run in _runs(pages))
        if _PAIR.size + len(runs) <= self._SPACE:
            self._shared[_PAIR.size : _PAIR.size + len(runs)] = runs
            _PAIR.pack_into(self._shared, 0, lessons + 1, len(runs))


def copied(proc: int) -> Iterator[int]:
    """The addresses of pages that the caller has for itself."""
    pagemap = os.open("self/pagemap", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    try:
        for start, end in list(_writable(proc)):
            first, count = start // mmap.PAGESIZE, (end - start) // mmap.PAGESIZE
            entries = os.pread(pagemap, count * _ENTRY, first * _ENTRY)
            for number, (entry,) in enumerate(struct.iter_unpack("<Q", entries)):
                if entry & (_PRESENT | _EXCLUSIVE | _FILE) == _PRESENT | _EXCLUSIVE:
                    yield start + number * mmap.PAGESIZE
    finally:
        os.close(pagemap)


def _writable(proc: int) -> Iterator[tuple[int, int]]:
    """The caller's private writable mappings: first address, and the one behind the last."""
    maps = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with open(maps, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            addresses, permissions = line.split(None, 2)[:2]
            # User-Mode Linux lets the heap be executed.
            if permissions in ("rw-p", "rwxp"):
                start, _, end = addresses.partition("-")
                yield int(start, 16), int(end, 16)


def _runs(pages: Iterable[int], gap: int = 0) -> Iterator[tuple[int, int]]:
    """*pages* as runs of neighbours, or of those at most *gap* bytes apart: address and length."""
    start = end = 0
    for page in sorted(pages):
        if page > end + gap:
            if end:
                yield start, end - start
            start = page
        end = page + mmap.PAGESIZE
    if end:
        yield start, end - start
