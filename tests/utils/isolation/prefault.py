# SPDX-License-Identifier: GPL-2.0-only
"""Copy memory in one go that a fork would have copied page by page.

Under User-Mode Linux a page fault, and each run of neighbouring pages that a process maps, costs
the host a call. There copying ahead halves the time of a run; elsewhere it is no gain, and nothing
is done. What the kernel refuses is left to page faults.

Measured by: python3 -m vm run --kernel LINUX --guests 1, with and without is_user_mode_linux().
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tests.utils.tasks.process import holding
from tests.utils.uapi.syscalls import closing_fd

# linux/mman.h, 5.14: as if each page were written to.
_MADV_POPULATE_WRITE = 23
# linux/pidfd.h, 6.14: the caller. Before, process_madvise(2) knew nothing of _MADV_POPULATE_WRITE.
_PIDFD_SELF = -10000
_NR_PROCESS_MADVISE = 440
#: Ranges that one call takes at most (linux/uio.h).
_UIO_MAXIOV = 1024
# Documentation/admin-guide/mm/pagemap.rst: a page that is present, in one process alone.
_PRESENT, _EXCLUSIVE, _FILE = 1 << 63, 1 << 56, 1 << 61
#: struct iovec, where addresses have 64 bits.
_RANGE = struct.Struct("<QQ")

_PAGE = mmap.PAGESIZE
#: Merge runs at most this many bytes apart: one run instead of two.
_GAP = 4 * _PAGE
#: More than there is of free memory in small pieces, in bytes.
_PIECES = 32 << 20
#: Do nothing where less memory than this is free, in bytes.
_ENOUGH = 128 << 20

_libc = ctypes.CDLL(None, use_errno=True)

Range = tuple[int, int]


def is_user_mode_linux() -> bool:
    """Return whether the running kernel is User-Mode Linux."""
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return "User Mode Linux" in file.read(4096)


def populating(ranges: Iterable[Range]) -> Callable[[], object]:
    """Return what copies the memory in *ranges* (address and length) for the process that calls it.

    All is made ready here: what is done before the copying is done with page faults.
    """
    packed = b"".join([_RANGE.pack(*one) for one in ranges][:_UIO_MAXIOV])
    count, advice = ctypes.c_size_t(len(packed) // _RANGE.size), ctypes.c_long(_MADV_POPULATE_WRITE)
    return partial(_libc.syscall, _NR_PROCESS_MADVISE, _PIDFD_SELF, packed, count, advice, 0)


def unshare_memory(proc: int) -> None:
    """Copy all memory that the caller shares with the process it was forked from.

    The copies lie side by side, which makes each fork of the caller cheaper in turn.

    :param proc: a descriptor of the /proc to look in.
    """
    if os.sysconf("SC_AVPHYS_PAGES") * _PAGE > _ENOUGH:
        populate = populating(_writable(proc))
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        # Small pieces are given out first. With them taken, the copies come from whole stretches.
        # A page that no other process has would stay where it is: let one have them all.
        with mmap.mmap(-1, _PIECES, flags=flags), holding(os.getpid):
            populate()


class WriteSet:
    """The pages that the first cases of a zygote write to, shared by it with its children."""

    #: Cases to learn from: each touches some pages that the others do not.
    _SAMPLES = 3
    _SIZE = 1 << 18

    def __init__(self) -> None:
        """Begin with none."""
        #: How many cases have added to it, a zero, and the runs of pages.
        self._shared = mmap.mmap(-1, self._SIZE)

    @property
    def _runs(self) -> list[Range]:
        return [run for run in _RANGE.iter_unpack(self._shared[_RANGE.size :]) if run[1]]

    @property
    def complete(self) -> bool:
        """Whether enough cases have been seen."""
        return self._shared[0] == self._SAMPLES

    def record(self, proc: int) -> None:
        """At the end of a case: add what the caller has written to, unless enough is known.

        :param proc: a descriptor of the /proc to look in.
        """
        if not self.complete:
            pages = {page for run, size in self._runs for page in range(run, run + size, _PAGE)}
            pages.update(_written(proc))
            runs = b"".join(_RANGE.pack(*run) for run in _joined(pages))
            if len(runs) < self._SIZE - _RANGE.size:
                self._shared[_RANGE.size : _RANGE.size + len(runs)] = runs
                self._shared[0] += 1

    def populating(self, proc: int) -> Callable[[], object]:
        """Return what a child of the caller is to call before all else.

        :param proc: a descriptor of the /proc to look in.
        """
        runs = self._runs
        return populating(
            (max(run, begin), min(run + size, begin + length) - max(run, begin))
            for begin, length in _writable(proc)
            for run, size in runs
            if begin < run + size and run < begin + length
        )


def _writable(proc: int) -> Iterator[Range]:
    """Yield the caller's private writable mappings: address and length."""
    maps = os.open("self/maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    with open(maps, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            addresses, permissions = line.split(None, 2)[:2]
            # User-Mode Linux lets the heap be executed.
            if permissions in ("rw-p", "rwxp"):
                start, _, end = addresses.partition("-")
                yield int(start, 16), int(end, 16) - int(start, 16)


def _written(proc: int) -> Iterator[int]:
    """Yield the addresses of pages that the caller has for itself."""
    with closing_fd(os.open("self/pagemap", os.O_RDONLY, dir_fd=proc)) as pagemap:
        for start, length in list(_writable(proc)):
            entries = os.pread(pagemap, length // _PAGE * 8, start // _PAGE * 8)
            for number, (entry,) in enumerate(struct.iter_unpack("<Q", entries)):
                if entry & (_PRESENT | _EXCLUSIVE | _FILE) == _PRESENT | _EXCLUSIVE:
                    yield start + number * _PAGE


def _joined(pages: Iterable[int]) -> Iterator[Range]:
    """Yield *pages* as runs of those at most _GAP apart: address and length."""
    start = end = 0
    for page in sorted(pages):
        if page > end + _GAP:
            if end:
                yield start, end - start
            start = page
        end = page + _PAGE
    if end:
        yield start, end - start
