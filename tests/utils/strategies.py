# SPDX-License-Identifier: GPL-2.0-only
"""How Hypothesis makes programs and histories, simple ones first; imported only where it is."""

from __future__ import annotations

import zlib

from hypothesis import strategies as st

from tests.utils.histories import History
from tests.utils.programs import CALLERS, SOURCES, STEPS, Program
from tests.utils.world import VERBS, World

_DIRECTORIES = ("a", "a/b", "c", "a/a", "a/c", "c/a", "c/c", "a/b/a", ".")
_FILES = ("f", "a/g", "a/f", "c/f")
#: Paths of these steps are of files.
_ON_FILES = ("netns", "mntns")


def _step(verb: str) -> st.SearchStrategy[str]:
    directories, files = st.sampled_from(_DIRECTORIES), st.sampled_from(_FILES)
    paths = files if verb in _ON_FILES else directories
    words = st.lists(paths, min_size=STEPS[verb], max_size=STEPS[verb])
    if verb == "bind":
        words |= st.lists(files, min_size=2, max_size=2)
    elif verb == "detach":
        words |= st.lists(files, min_size=1, max_size=1)
    return words.map(lambda names: " ".join([verb, *names]))


def _steps(most: int) -> st.SearchStrategy[tuple[str, ...]]:
    # Most trees are made of file systems and binds: what else there is has to have something to
    # work on.
    common = st.sampled_from(("fresh", "fresh", "bind", "rbind", "shared", "unbindable"))
    verb = common | st.sampled_from(tuple(STEPS))
    return st.lists(verb.flatmap(_step), max_size=most).map(tuple)


def programs(most: int = 12) -> st.SearchStrategy[Program]:
    """Programs of up to *most* steps."""
    return st.builds(
        Program,
        steps=_steps(most),
        caller=st.sampled_from(CALLERS),
        late=_steps(3),
        source=st.sampled_from(SOURCES),
        where=st.sampled_from((".", "a", "a/b", "c")),
        recursive=st.booleans(),
    )


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
        if verb and (possible := world.possible(_VERBS[verb % len(_VERBS)])):
            events.append(_first(possible, order))
            world.happen(events[-1])
    return History(tuple(events), types)


def _first(events: list[str], order: int) -> str:
    """The first of *events* in one of 256 orders. It stays the first when others come or go, so
    that a history keeps its meaning while events before are taken out to make it small."""
    return min(events, key=lambda event: zlib.crc32(f"{order} {event}".encode()))


def histories(most: int = 36) -> st.SearchStrategy[History]:
    """Histories of up to *most* events."""
    # All picks at once: Hypothesis makes many short lists, and takes its time for long ones.
    picks = st.binary(min_size=2 * most, max_size=2 * most)
    kind = st.sampled_from(("shared", "private"))
    return st.builds(_history, st.tuples(kind, kind), picks)
