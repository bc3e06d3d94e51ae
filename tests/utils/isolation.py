# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: each case marked ``isolated`` runs in a forked child of its own.

The pytest process sets up and tears down what is shared (session, package, module and class scope),
forks, supervises, and hands on the child's reports as they come. Set-up of function scope, call and
tear-down run in the child; nothing that they do to namespaces, credentials, root or descriptors
reaches the pytest process. Without ``isolated`` pytest runs an item as ever.

A plugin that can tell without running a case that it must be skipped implements
``pytest_isolation_precheck(item)`` and calls ``pytest.skip``: that costs no fork.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.utils import aftermath, child, sandbox
from tests.utils.protocol import LIMIT, SESSION, Protocol, changed, precheck

_BEGUN = pytest.StashKey[bool]()


class Hooks:
    """The hooks this plugin adds."""

    @pytest.hookspec
    def pytest_isolation_precheck(self, item: pytest.Item) -> None:
        """Called before *item* is set up, in the pytest process; isolated or not.

        Call ``pytest.skip`` when the item cannot run here (or ``pytest.fail`` when that is an
        error). The report is located at the item. Must have no side effects.
        """


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)
    pluginmanager.add_hookspecs(aftermath.Hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "isolated(pid_namespace=True): run the case in a forked child with namespaces of its own; "
        "without one for PIDs where that would be in the way",
    )
    if config.getoption("forked", False):
        raise pytest.UsageError(
            "--forked (pytest-forked) cannot be combined with this suite: its cases are isolated"
            " in forked children already; run without --forked or with -p no:pytest_forked"
        )
    basetemp = config.getoption("basetemp", None)
    sandbox.keep_visible(
        config.rootpath, config.invocation_params.dir, *([Path(basetemp)] if basetemp else [])
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    for option in ("usepdb", "trace"):
        if session.config.getoption(option, False) and any(map(is_isolated, session.items)):
            name = "--pdb" if option == "usepdb" else "--trace"
            raise pytest.UsageError(
                f"{name} needs the terminal, which an isolated case does not have:"
                " deselect the isolated cases (-m 'not isolated') or run without it"
            )


def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(SESSION, None)
    if state is not None:
        del config.stash[SESSION]
        state.nurseries.renew()
        os.close(state.stacks)


def is_isolated(item: pytest.Item) -> bool:
    """Whether *item* runs in a child of its own."""
    return item.get_closest_marker("isolated") is not None


def is_of_isolated(report: pytest.TestReport) -> bool:
    """Whether *report* is one of an isolated case, wherever that ran."""
    return "isolated" in report.keywords


@pytest.fixture
def scratch() -> Path:
    """The directory of an empty tmpfs which no other case sees, in a private mount namespace."""
    if child.current() is None:
        raise pytest.UsageError("a case asks for `scratch` and is not isolated")
    facts = sandbox.facts()
    if facts.scratch is None:
        pytest.skip(facts.reason)
    return facts.scratch


# --- limits: the setting is pytest-timeout's, the clock is ours -----------------------------------


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool | None:
    if not is_isolated(item):
        return None
    running = child.current()
    if running is not None:
        running.arm(settings.timeout)
    else:
        item.stash[LIMIT] = settings.timeout
    return True


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool | None:
    if not isinstance(item, pytest.Item) or not is_isolated(item):
        return None
    running = child.current()
    if running is not None:
        running.arm(None)
    return True


# --- in the child: no second process gets past the case -------------------------------------------


def _guarded() -> Generator[None, Any, Any]:
    running = child.current()
    if running is None:
        return (yield)
    with running.only_here():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    if not is_isolated(item):
        precheck(item)
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pyfunc_call() -> Generator[None, Any, Any]:
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup(request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    changed(request.config)
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    result = yield from _guarded()
    running = child.current()
    if running is not None:
        running.fail_for_leftovers()
    return result


# --- in the pytest process ------------------------------------------------------------------------


def pytest_fixture_post_finalizer(request: pytest.FixtureRequest) -> None:
    changed(request.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not is_isolated(item):
        changed(item.config)
        return None
    if not item.config.stash.get(_BEGUN, False):
        item.config.stash[_BEGUN] = True
        item.config.hook.pytest_isolation_begins(config=item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    Protocol(item, nextitem).run()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
