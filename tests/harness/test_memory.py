# SPDX-License-Identifier: GPL-2.0-only
"""Pages that the first cases write to are copied ahead for all others, and no more of them."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from tests.utils import memory
from tests.utils.process import in_child

PAGES = 64


@pytest.fixture
def block() -> Iterator[tuple[mmap.mmap, int]]:
    """Private memory that has been written to, and its address."""
    with mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE) as block:
        block[:] = b"x" * len(block)
        view = ctypes.c_char.from_buffer(block)
        address = ctypes.addressof(view)
        del view
        yield block, address


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


def test_what_the_first_cases_write_is_copied_for_the_next(
    block: tuple[mmap.mmap, int], proc: int
) -> None:
    data, address = block
    habits = memory.Habits()

    def case(*pages: int) -> Callable[[], set[int]]:
        def run() -> set[int]:
            habits.follow()
            before = copied(address, proc)
            for page in pages:
                data[page * mmap.PAGESIZE] = 0
            habits.learn(proc)
            return before

        return run

    lessons = [(3, 4, 5, 9), (3, 4, 5, 20), (3, 4)]
    assert [in_child(case(*pages)) for pages in lessons] == [set(), set(), set()]
    assert in_child(case(30)) == {3, 4, 5, 9, 20}
    assert in_child(case()) == {3, 4, 5, 9, 20}, "learned from a case behind the last lesson"


def test_a_case_without_proc_teaches_nothing_wrong(block: tuple[mmap.mmap, int], proc: int) -> None:
    _, address = block
    habits = memory.Habits()
    for _ in range(3):
        in_child(lambda: habits.learn(-1))

    def case() -> set[int]:
        habits.follow()
        return copied(address, proc)

    assert in_child(case) == set()
