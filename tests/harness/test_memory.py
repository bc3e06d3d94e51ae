# SPDX-License-Identifier: GPL-2.0-only
"""Pages that the first cases write to are copied ahead for all others, and no more of them."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Callable, Iterator

import pytest

from tests.utils import memory
from tests.utils.process import in_child

PAGES = 64
MAP_FIXED_NOREPLACE = 0x100000  # asm-generic/mman-common.h


@pytest.fixture(autouse=True)
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has left at the moment."""
    monkeypatch.setattr(memory, "_ENOUGH", 0)


@pytest.fixture(params=[0, mmap.PROT_EXEC], ids=["data", "executable"])
def block(request: pytest.FixtureRequest) -> Iterator[tuple[mmap.mmap, int]]:
    """Private memory that has been written to, and its address; executable, as UML's heap is."""
    protection = mmap.PROT_READ | mmap.PROT_WRITE | request.param
    size = PAGES * mmap.PAGESIZE
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE, prot=protection) as block:
        block[:] = b"x" * size
        yield block, ctypes.addressof(ctypes.c_char.from_buffer(block))


@pytest.fixture
def proc() -> Iterator[int]:
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield proc
    os.close(proc)


def copied(address: int, proc: int) -> set[int]:
    """The numbers of the block's pages that the caller has for itself."""
    numbers = {(page - address) // mmap.PAGESIZE for page in memory.copied(proc)}
    return numbers & set(range(PAGES))


def test_a_child_has_what_it_has_written(block: tuple[mmap.mmap, int], proc: int) -> None:
    data, address = block

    def write() -> set[int]:
        data[5 * mmap.PAGESIZE] = 0
        return copied(address, proc)

    assert in_child(write) == {5}


def test_a_nursery_has_all_for_itself(block: tuple[mmap.mmap, int], proc: int) -> None:
    _, address = block

    def own() -> set[int]:
        memory.own()
        return copied(address, proc)

    assert in_child(own) == set(range(PAGES))


def test_where_little_memory_is_free_none_is_taken(
    block: tuple[mmap.mmap, int], proc: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, address = block
    monkeypatch.setattr(memory, "_ENOUGH", 1 << 60)

    def own() -> set[int]:
        memory.own()
        return copied(address, proc)

    assert in_child(own) == set()


def frames(address: int, proc: int) -> list[int]:
    """Where the block's pages are in the machine's memory; 0 for callers that may not know."""
    pagemap = os.open("self/pagemap", os.O_RDONLY, dir_fd=proc)
    entries = os.pread(pagemap, PAGES * 8, address // mmap.PAGESIZE * 8)
    os.close(pagemap)
    return [entry & ((1 << 55) - 1) for (entry,) in struct.iter_unpack("<Q", entries)]


def test_what_a_nursery_has_for_itself_already_moves_along(
    block: tuple[mmap.mmap, int], proc: int
) -> None:
    data, address = block

    def own() -> tuple[list[int], list[int]]:
        data[:] = b"y" * len(data)
        before = frames(address, proc)
        memory.own()
        return before, frames(address, proc)

    before, after = in_child(own)
    if not any(before):
        pytest.skip("only CAP_SYS_ADMIN is told of page frames")
    assert not set(before) & set(after)


def test_owning_leaves_no_process_and_no_descriptor() -> None:
    def own() -> tuple[list[str], list[str]]:
        before = os.listdir("/proc/self/fd")
        memory.own()
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        return before, os.listdir("/proc/self/fd")

    before, after = in_child(own)
    assert before == after


def test_what_the_first_cases_write_is_copied_for_the_next(
    block: tuple[mmap.mmap, int], proc: int
) -> None:
    data, address = block
    habits = memory.Habits(pay=True)

    def case(*pages: int) -> Callable[[], set[int]]:
        def run() -> set[int]:
            habits.ahead()()
            before = copied(address, proc)
            for page in pages:
                data[page * mmap.PAGESIZE] = 0
            habits.learn(proc)
            return before

        return run

    lessons = [(3, 4, 5, 13), (3, 4, 5, 20), (3, 4)]
    assert [in_child(case(*pages)) for pages in lessons] == [set(), set(), set()]
    assert in_child(case(30)) == {3, 4, 5, 13, 20}
    assert in_child(case()) == {3, 4, 5, 13, 20}, "learned from a case behind the last lesson"


def learn(habits: memory.Habits, write: Callable[[], object], proc: int) -> None:
    """Have *habits* learn all they can from cases that call *write*."""

    def case() -> None:
        write()
        habits.learn(proc)

    for _ in range(3):
        in_child(case)


def copied_ahead(habits: memory.Habits, address: int, proc: int) -> set[int]:
    """The block's pages that a case has for itself before it does anything."""

    def case() -> set[int]:
        habits.ahead()()
        return copied(address, proc)

    return in_child(case)


def test_a_small_gap_is_copied_too(block: tuple[mmap.mmap, int], proc: int) -> None:
    data, address = block
    habits = memory.Habits(pay=True)

    def write() -> None:
        for page in (2, 7, 13):
            data[page * mmap.PAGESIZE] = 0

    learn(habits, write, proc)
    assert copied_ahead(habits, address, proc) == {2, 3, 4, 5, 6, 7, 13}


def test_memory_that_only_a_case_had_keeps_nothing_from_being_copied(
    block: tuple[mmap.mmap, int], proc: int
) -> None:
    data, address = block
    habits = memory.Habits(pay=True)
    # One of its own on each side.
    below, above = 0x10000 * mmap.PAGESIZE, 0x7F0000000000

    def write() -> None:
        for place in (below, above):
            libc = ctypes.CDLL(None, use_errno=True)
            libc.mmap.restype = ctypes.c_void_p
            flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE
            got = libc.mmap(ctypes.c_void_p(place), mmap.PAGESIZE, 3, flags, -1, ctypes.c_long(0))
            assert got == place
            ctypes.memset(got, 1, 1)
        data[8 * mmap.PAGESIZE] = 0

    learn(habits, write, proc)
    assert copied_ahead(habits, address, proc) == {8}


def test_where_it_does_not_pay_nothing_is_copied(block: tuple[mmap.mmap, int], proc: int) -> None:
    data, address = block
    habits = memory.Habits(pay=False)

    def write() -> None:
        data[0] = 0

    learn(habits, write, proc)
    assert copied_ahead(habits, address, proc) == set()


def test_a_case_without_proc_teaches_nothing_wrong(block: tuple[mmap.mmap, int], proc: int) -> None:
    _, address = block
    habits = memory.Habits(pay=True)
    for _ in range(3):
        in_child(lambda: habits.learn(-1))

    assert copied_ahead(habits, address, proc) == set()
