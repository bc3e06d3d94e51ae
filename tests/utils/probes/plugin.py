# SPDX-License-Identifier: GPL-2.0-only
"""What a case needs, checked before it runs.

A need that is not met skips the case, with the reason in full; ``--require`` turns such a skip
into a failure. A feature that answers its probe as no kernel without it does is broken, and fails
the case in any event. Needs are probed on the running system, never derived from a version number.
They are checked before the case's process is forked, so that a skipped case costs none; each call
that a filter might kill for is made in a child, once.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Generator, Iterator

import pytest

from tests.utils.probes import calls, room
from tests.utils.probes import flag as flag
from tests.utils.probes.asker import Asker
from tests.utils.probes.features import FEATURES
from tests.utils.probes.namespaces import mount_ns_missing, nested_userns_missing, userns_missing
from tests.utils.probes.probe import Missing
from tests.utils.tasks.userns import is_initial_userns
from tests.utils.uapi.caps import CAP_SYS_ADMIN, effective_in_proc

MARKERS = (
    "needs(*names): what the case needs; checked before it runs, and skipped with the reason "
    "when missing (names: NEEDS in tests/utils/probes/plugin.py)",
    "room(**counts): how many mount_namespaces, user_namespaces, mounts in one namespace and "
    "descriptors the case has at once; skipped where the machine's limits leave no room for them",
)


def _need_flag() -> Missing | None:
    found = flag.probe()
    return calls.missing() if found.support is flag.Support.PRESENT else Missing(found.reason)


def _need_proc() -> Missing | None:
    return userns_missing() or FEATURES["PID namespace"]() or FEATURES["proc in a user namespace"]()


def _need_root() -> Missing | None:
    privileged = effective_in_proc() >> CAP_SYS_ADMIN & 1
    if os.geteuid() == 0 and privileged and is_initial_userns():
        return None
    return Missing("needs root with CAP_SYS_ADMIN in the initial user namespace")


#: The need of a case that changes what all of a machine shares, or brings down a kernel without the
#: fix it checks.
EXPENDABLE = "expendable kernel"


def _need_hypothesis() -> Missing | None:
    if importlib.util.find_spec("hypothesis") is not None:
        return None
    return Missing("needs Hypothesis (pip install hypothesis; in a guest: vm run --stress)")


#: Name of a need -> what is missing, or None.
NEEDS: dict[str, Callable[[], Missing | None]] = {
    "OPEN_TREE_NAMESPACE": functools.cache(_need_flag),
    "mount namespace": mount_ns_missing,
    "user namespace": userns_missing,
    "nested user namespace": nested_userns_missing,
    "root": functools.cache(_need_root),
    "hypothesis": _need_hypothesis,
    **FEATURES,
    "proc in a user namespace": _need_proc,
}


#: Without these there is nothing to have room for.
_BEFORE_ROOM = ("OPEN_TREE_NAMESPACE", "mount namespace")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--require``."""
    parser.getgroup("open_tree_ns", "OPEN_TREE_NAMESPACE cases").addoption(
        "--require",
        action="store_true",
        help="fail, not skip, a case whose feature or privilege is missing",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, for ``pytest --markers`` and ``--strict-markers``.

    :raises pytest.UsageError: Python is to leave out the cases' assert statements.
    """
    # pytest rewrites those of test modules and plugins, so that they hold under -O as well.
    if sys.flags.optimize and config.getoption("assertmode") == "plain":
        raise pytest.UsageError(
            "--assert=plain under python -O (or PYTHONOPTIMIZE) leaves out every assert: all cases"
            " would pass\nhint: run without one of the two"
        )
    config.stash[_PID] = os.getpid()
    config.stash[_ASKER] = Asker(NEEDS)
    for line in MARKERS:
        config.addinivalue_line("markers", line)


#: The process of pytest, of which an isolated case's is a descendant.
_PID = pytest.StashKey[int]()
_ASKER = pytest.StashKey[Asker]()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process in which needs were asked for."""
    if _ASKER in config.stash:
        config.stash[_ASKER].close()


def needs_of(item: pytest.Item) -> list[str]:
    """Return the names of all that *item* needs."""
    return [name for mark in item.iter_markers("needs") for name in mark.args]


def room_of(item: pytest.Item) -> dict[str, int]:
    """Return what *item* must have room for: the most that one of its markers says of each kind."""
    wanted: dict[str, int] = {}
    for mark in item.iter_markers("room"):
        for kind, count in mark.kwargs.items():
            wanted[kind] = max(count, wanted.get(kind, 0))
    return wanted


def _unknown(item: pytest.Item) -> Iterator[str]:
    """What *item* asks for and nobody knows, a sentence each."""
    for name in needs_of(item):
        if name not in NEEDS:
            yield f"{item.nodeid} needs {name!r}, which is no name of a need"
    for kind in room_of(item):
        if kind not in room.KINDS:
            yield f"{item.nodeid} needs room for {kind!r}, which is nothing that is counted"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a need that nobody knows, chosen or not: else its case may be skipped for another.

    :raises pytest.UsageError: there is one. A worker of pytest-xdist reports a broken module
        instead: it has nobody to tell of an error of usage.
    """
    report = yield
    items = [node for node in report.result if isinstance(node, pytest.Item)]
    wrong = [text for item in items for text in _unknown(item)]
    if wrong:
        names = ", ".join(map(repr, sorted(NEEDS)))
        hint = f"hint: the names are {names}; counted are {', '.join(room.KINDS)}"
        text = "\n".join([*wrong, hint])
        if not hasattr(collector.config, "workerinput"):
            raise pytest.UsageError(text)
        report.outcome, report.longrepr, report.result = "failed", text, []
    return report


def pytest_isolation_precheck(item: pytest.Item) -> None:
    """Skip, or with ``--require`` fail, a case that cannot run here; fail it where a feature it
    needs is there but broken."""
    names = needs_of(item)
    for name in filter(_BEFORE_ROOM.__contains__, names):
        _check(item, name)
    # Before the features: their probes take room too, and would be refused for want of it.
    if reason := room.lacking(room_of(item)):
        _skip(item, reason)
    for name in names:
        _check(item, name)


def _check(item: pytest.Item, name: str) -> None:
    missing = item.config.stash[_ASKER].missing(name)
    if missing is None:
        return
    if missing.broken:
        pytest.fail(missing.reason, pytrace=False)
    # What may be done to a machine is the user's decision, and nothing it lacks.
    _skip(item, missing.reason, required=name != EXPENDABLE)


def _skip(item: pytest.Item, reason: str, *, required: bool = True) -> None:
    if required and item.config.getoption("require"):
        pytest.fail(f"--require: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a case that asks for descriptors as many as it may have, in its own process alone."""
    if os.getpid() != item.config.stash[_PID] and "descriptors" in room_of(item):
        room.raise_descriptor_limit()
