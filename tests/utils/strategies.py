# SPDX-License-Identifier: GPL-2.0-only
"""How Hypothesis makes programs and histories, simple ones first; imported only where it is."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.utils.histories import EVENTS, History
from tests.utils.programs import CALLERS, SOURCES, VERBS, Program

_DIRECTORIES = ("a", "a/b", "c", "a/a", "a/c", "c/a", "c/c", "a/b/a", ".")
_FILES = ("f", "a/g", "a/f", "c/f")
#: Paths of these steps are of files.
_ON_FILES = ("netns", "mntns")


def _step(verb: str) -> st.SearchStrategy[str]:
    directories, files = st.sampled_from(_DIRECTORIES), st.sampled_from(_FILES)
    paths = files if verb in _ON_FILES else directories
    words = st.lists(paths, min_size=VERBS[verb], max_size=VERBS[verb])
    if verb == "bind":
        words |= st.lists(files, min_size=2, max_size=2)
    elif verb == "detach":
        words |= st.lists(files, min_size=1, max_size=1)
    return words.map(lambda names: " ".join([verb, *names]))


def _steps(most: int) -> st.SearchStrategy[tuple[str, ...]]:
    # Most trees are made of file systems and binds: what else there is has to have something to
    # work on.
    common = st.sampled_from(("fresh", "fresh", "bind", "rbind", "shared", "unbindable"))
    verb = common | st.sampled_from(tuple(VERBS))
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


def _event(verb: str) -> st.SearchStrategy[str]:
    words = [st.just(verb), st.integers(0, 3).map(str)]
    if EVENTS[verb]:
        words.append(st.sampled_from(EVENTS[verb]))
    return st.tuples(*words).map(" ".join)


def histories(most: int = 20) -> st.SearchStrategy[History]:
    """Histories of up to *most* events."""
    verbs = ("copy", "copy-foreign", "mount", "mount", "umount", *EVENTS)
    events = st.lists(st.sampled_from(verbs).flatmap(_event), max_size=most)
    kind = st.sampled_from(("shared", "private"))
    return st.builds(History, events.map(tuple), st.tuples(kind, kind))
