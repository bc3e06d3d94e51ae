# SPDX-License-Identifier: GPL-2.0-only
"""How Hypothesis makes programs and histories, simple ones first; imported only where it is."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.utils.histories import History
from tests.utils.programs import CALLERS, SOURCES, STEPS, Program
from tests.utils.world import COPIES, VERBS, World

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


def _history(types: tuple[str, str], picks: list[tuple[str, int] | None]) -> History:
    """The history in which each pick is one of the events of that kind which can happen then."""
    world, events = World(types), []
    for pick in picks:
        if pick and (possible := world.possible(pick[0])):
            events.append(possible[pick[1] % len(possible)])
            world.happen(events[-1])
    return History(tuple(events), types)


def histories(most: int = 20) -> st.SearchStrategy[History]:
    """Histories of up to *most* events."""
    # What a copy holds, and what comes of a lock, shows in a mount or umount after it.
    verbs = st.sampled_from(("mount", "umount", *COPIES, *VERBS))
    pick = st.none() | st.tuples(verbs, st.integers(0, 1 << 16))
    picks = st.lists(pick, min_size=most, max_size=most)
    kind = st.sampled_from(("shared", "private"))
    return st.builds(_history, st.tuples(kind, kind), picks)
