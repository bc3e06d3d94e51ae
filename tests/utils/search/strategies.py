# SPDX-License-Identifier: GPL-2.0-only
"""How Hypothesis makes programs and histories, simple ones first; imported only where it is."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import partial
from typing import TypeVar

from hypothesis import strategies as st

from tests.utils.model.namespaces import VERBS, World
from tests.utils.search.histories import History
from tests.utils.search.programs import CALLERS, SOURCES, Program
from tests.utils.search.steps import STEPS

T = TypeVar("T")

#: Those that are there from the beginning are likelier: most steps should work on something.
_DIRECTORIES = (*("a", "a/b", "c") * 4, "a/a", "a/c", "c/a", "c/c", "a/b/a", ".")
_FILES = ("f", "a/g", "a/f", "c/f")
#: The verbs of steps, each as often as it is likely; an empty one is no step.
_STEPS = (
    *("",) * 12,
    *("fresh",) * 10,
    *("bind", "rbind", "shared", "unbindable", "idmap") * 2,
    *STEPS,
)
#: Steps that need no mount where they work; all others do.
_ANYWHERE = ("fresh", "bind", "rbind", "idmap")
#: Paths of these steps are of files; of those, they can be.
_ON_FILES = ("netns", "mntns")
_ON_BOTH = ("bind", "rbind")


def _steps(picks: bytes, mounted: list[str]) -> tuple[str, ...]:
    """The steps that each three bytes pick: a verb and two paths.

    :param mounted: where something has been mounted, as far as is known without a kernel.
    """
    steps = []
    for pick, *paths in zip(picks[::3], picks[1::3], picks[2::3], strict=True):
        verb = _STEPS[pick % len(_STEPS)]
        if not verb:
            continue
        on_files = verb in _ON_FILES or (verb in _ON_BOTH and paths[0] % 4 == 3)
        names = [_picked(_FILES if on_files else _DIRECTORIES, path >> 2) for path in paths]
        if verb not in (*_ANYWHERE, *_ON_FILES):
            # The top itself seldom: without it there is nothing to copy.
            places = mounted[1:] if paths[0] % 8 else mounted[:1]
            if not places:
                continue
            names[0] = _picked(places, paths[0])
        steps.append(" ".join([verb, *names[: STEPS[verb]]]))
        if verb in (*_ANYWHERE, *_ON_FILES, "move"):
            mounted.append(names[STEPS[verb] - 1])
    return tuple(steps)


def _picked(words: Sequence[T], pick: int) -> T:
    return words[pick % len(words)]


def _program(late: int, picks: bytes) -> Program:
    """The program of four bytes for the call and three for each step, *late* of them late."""
    mounted = ["."]
    call, steps, lates = picks[:4], picks[4 : -3 * late], picks[-3 * late :]
    # More often than not what promises a copy: a refusal shows nothing of attributes or id maps.
    return Program(
        steps=_steps(steps, mounted),
        caller=_picked(CALLERS, call[0]),
        late=_steps(lates, mounted),
        source=_picked(("path", "path", *SOURCES), call[1]),
        where=_picked((*".....", "a", "a/b", "c"), call[2]),
        recursive=call[3] % 4 < 3,
    )


def programs(most: int = 12, late: int = 3) -> st.SearchStrategy[Program]:
    """Return programs of up to *most* steps, and up to *late* ones of the caller."""
    return _bytes(4 + 3 * most + 3 * late).map(partial(_program, late))


def _bytes(length: int) -> st.SearchStrategy[bytes]:
    # All picks at once: Hypothesis makes short lists, and of several draws many that are nothing.
    return st.binary(min_size=length, max_size=length)


#: The verbs of a history, each as often as it is likely. Most of what is wrong shows in a mount,
#: an umount or a lifted attribute, and there only with a copy, better a copy of a copy.
_VERBS = (
    *("mount", "umount") * 4,
    *("copy", "copy-foreign") * 3,
    *("shared", "shared", "restrict", "relax") * 2,
    *VERBS,
)


def _history(types: tuple[str, str], picks: bytes) -> History:
    """The history in which each pair of bytes picks a verb, and one of its events that can happen
    then; zero picks nothing."""
    world, events = World(types), []
    for verb, order in zip(picks[::2], picks[1::2], strict=True):
        if verb and (enabled := world.enabled(_VERBS[verb % len(_VERBS)])):
            events.append(_first(enabled, order))
            world.apply(events[-1])
    return History(tuple(events), types)


def _first(events: list[str], order: int) -> str:
    """The first of *events* in one of 256 orders. It stays the first when others come or go, so
    that a history keeps its meaning while events before are taken out to make it small."""
    newest = max(int(event.split()[1]) for event in events)

    def place(event: str) -> int:
        verb, word, *rest = event.split()
        # Namespaces are known by how new they are: numbers change when a copy is taken out.
        age = str(newest - int(word)) if int(word) else "first"
        return zlib.crc32(" ".join((str(order), verb, age, *rest)).encode())

    return min(events, key=place)


def histories(most: int = 36) -> st.SearchStrategy[History]:
    """Return histories of up to *most* events."""
    kind = st.sampled_from(("shared", "private"))
    return st.builds(_history, st.tuples(kind, kind), _bytes(2 * most))
