# SPDX-License-Identifier: GPL-2.0-only
"""Copy memory in one go that a fork would have copied page by page.

After a fork each page is copied when one of the two processes first writes to it, at the price of
a page fault: next to nothing on a processor, but half the time of a case in an emulated machine.
Most of the pages a case writes to are those the case before has written to (the interpreter's and
pytest's own), and a single process_madvise(2) copies them all for a fifth of the price.

Measured: a sixth of a run's time under User-Mode Linux, where the host has a part in each fault; a
loss of a twentieth under QEMU without KVM, and nothing to speak of on a processor. So it is done
in the first alone. All this is a matter of speed: what the kernel refuses is left to page faults.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress

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

_libc = ctypes.CDLL(None, use_errno=True)
_madvise = _libc.madvise
_madvise.argtypes = (ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int)


def _populate(ranges: bytes) -> None:
    """Copy what lies in these ranges: in one call where the kernel can do that, else in many."""
    for start in range(0, len(ranges), _PAIR.size * _UIO_MAXIOV):
        some = ranges[start : start + _PAIR.size * _UIO_MAXIOV]
        number, advice = len(some) // _PAIR.size, ctypes.c_long(_MADV_POPULATE_WRITE)
        if (
            _libc.syscall(
                _NR_PROCESS_MADVISE, _PIDFD_SELF, some, ctypes.c_size_t(number), advice, 0
            )
            < 0
        ):
            for address, length in _PAIR.iter_unpack(some):
                _madvise(address, length, _MADV_POPULATE_WRITE)


def _writable(proc: int) -> Iterator[tuple[int, int]]:
    """The caller's private writable mappings: first address, and the one behind the last."""
    maps = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with open(maps, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            addresses, permissions = line.split(None, 2)[:2]
            if permissions == "rw-p":
                start, _, end = addresses.partition("-")
                yield int(start, 16), int(end, 16)


def faults_are_dear() -> bool:
    """Whether this is User-Mode Linux."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return "User Mode Linux" in file.read(4096)
    return False


def own() -> None:
    """Copy all memory that the caller shares with the process it was forked from.

    The copies lie side by side, which makes each fork of the caller cheaper in turn: User-Mode
    Linux maps a run of neighbours at once.
    """
    with suppress(OSError):
        proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for start, end in list(_writable(proc)):
            _madvise(start, end - start, _MADV_POPULATE_WRITE)
        os.close(proc)


class Habits:
    """Which pages the first cases wrote to, once it is known; shared with all processes forked."""

    #: How many cases to learn from.
    _LESSONS = 3
    _SPACE = 1 << 18

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, self._SPACE)

    def _known(self) -> tuple[int, bytes]:
        """The lessons had, and the runs of pages that were written to in any of them."""
        lessons, size = _PAIR.unpack_from(self._shared)
        return lessons, self._shared[_PAIR.size : _PAIR.size + size]

    def follow(self) -> None:
        """At the start of a case: copy, for the caller, what it is going to write to."""
        lessons, known = self._known()
        if lessons == self._LESSONS:
            _populate(known)

    def learn(self, proc: int) -> None:
        """At the end of a case: note what the caller has written to.

        :param proc: a descriptor of the /proc to look in.
        """
        lessons, known = self._known()
        if lessons == self._LESSONS:
            return
        pages: set[int] = set()
        with suppress(OSError):
            pages.update(copied(proc))
        # What one case in three writes to is worth copying for all.
        for start, length in _PAIR.iter_unpack(known):
            pages.update(range(start, start + length, mmap.PAGESIZE))
        runs = b"".join(_PAIR.pack(*run) for run in _runs(sorted(pages)))
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


def _runs(pages: Iterable[int]) -> Iterator[tuple[int, int]]:
    """*pages*, in ascending order, as runs of neighbours: address and length, in bytes."""
    start = end = 0
    for page in pages:
        if page != end:
            if end:
                yield start, end - start
            start = page
        end = page + mmap.PAGESIZE
    if end:
        yield start, end - start
