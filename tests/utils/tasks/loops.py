# SPDX-License-Identifier: GPL-2.0-only
"""Children that do the same thing over and over while a case looks at what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count

from tests.utils.tasks.process import shared_numbers, started


@contextmanager
def background_loops(*functions: Callable[[int], object]) -> Iterator[None]:
    """Children that call their function with 0, 1, 2, ... until the block ends, which begins when
    each has done so once.

    What the kernel refuses them from then on is their own affair. Whatever else ends one fails the
    case.
    """
    turns = shared_numbers(len(functions))

    def forever(me: int) -> None:
        functions[me](0)
        turns[me] = 1
        for number in count(1):
            with suppress(OSError):
                functions[me](number)

    with ExitStack() as stack:
        tasks = [stack.enter_context(started(partial(forever, me))) for me in range(len(turns))]
        for me, task in enumerate(tasks):
            while not turns[me]:
                if task.finished(0.01):
                    task.result()
        yield
        for task in tasks:
            if task.finished(0):
                task.result()
