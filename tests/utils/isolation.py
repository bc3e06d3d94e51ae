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
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pluggy
import pytest
from _pytest.runner import CallInfo, check_interactive_exception

from tests.utils import aftermath, child, sandbox, sources, supervise
from tests.utils.child import Phase
from tests.utils.nursery import Nurseries
from tests.utils.reports import merge_sections


@dataclass(slots=True)
class _Session:
    """What the isolated cases of one pytest process share."""

    facts: sandbox.Facts
    nurseries: Nurseries
    #: A file in memory into which a child's faulthandler writes.
    stacks: int


_SESSION = pytest.StashKey[_Session]()
_LIMIT = pytest.StashKey[float]()
_BEGUN = pytest.StashKey[bool]()
_CAPTURING = pytest.StashKey[dict[str, pluggy.HookCaller]]()


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
    state = config.stash.get(_SESSION, None)
    if state is not None:
        del config.stash[_SESSION]
        state.nurseries.renew()
        os.close(state.stacks)


def is_isolated(item: pytest.Item) -> bool:
    """Whether *item* runs in a child of its own."""
    return item.get_closest_marker("isolated") is not None


def is_of_isolated(report: pytest.TestReport) -> bool:
    """Whether *report* is one of an isolated case, wherever that ran."""
    return "isolated" in report.keywords


def _wanted(item: pytest.Item, granted: sandbox.Facts) -> sandbox.Facts:
    """The isolation *item* is to have, of what the machine grants."""
    mark = item.get_closest_marker("isolated")
    if mark is None or mark.kwargs.get("pid_namespace", True):
        return granted
    return replace(granted, pid_namespace=False)


def _session(config: pytest.Config) -> _Session:
    state = config.stash.get(_SESSION, None)
    if state is None:
        facts = sandbox.facts()
        state = _Session(facts, Nurseries(), os.memfd_create("python-stacks"))
        config.stash[_SESSION] = state
        sources.rehearse(config)
    sources.prime(config)
    return state


@pytest.fixture
def scratch(request: pytest.FixtureRequest) -> Path:
    """The directory of an empty tmpfs which no other case sees, in a private mount namespace."""
    if child.current() is None:
        raise pytest.UsageError(f"{request.node.nodeid} asks for `scratch` and is not isolated")
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
        item.stash[_LIMIT] = settings.timeout
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
    _changed(request.config)
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    result = yield from _guarded()
    running = child.current()
    if running is not None:
        running.fail_for_leftovers()
    return result


# --- in the pytest process ------------------------------------------------------------------------


def _changed(config: pytest.Config) -> None:
    """The state that cases inherit has changed, or is about to (of no interest in a child)."""
    state = config.stash.get(_SESSION, None)
    if state is not None and child.current() is None:
        state.nurseries.changed()


def pytest_fixture_post_finalizer(request: pytest.FixtureRequest) -> None:
    _changed(request.config)


def precheck(item: pytest.Item) -> None:
    """Ask all plugins whether *item* can run here; a skip is located at the item."""
    try:
        hooks: Any = item.ihook
        hooks.pytest_isolation_precheck(item=item)
    except pytest.skip.Exception as skipped:
        skipped._use_item_location = True
        raise


def _capturing(config: pytest.Config, when: Phase) -> pluggy.HookCaller:
    """The hook of phase *when*, with the plugins alone that capture (and skip, in the set-up)."""
    callers = config.stash.setdefault(_CAPTURING, {})
    if when not in callers:
        kept = {"capturemanager", "logging-plugin"} | ({"skipping"} if when == "setup" else set())
        manager = config.pluginmanager
        others = [plugin for name, plugin in manager.list_name_plugin() if name not in kept]
        name = f"pytest_runtest_{when}"
        callers[when] = manager.subset_hook_caller(name, filter(None, others))
    return callers[when]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if not is_isolated(item):
        _changed(item.config)
        return None
    if not item.config.stash.get(_BEGUN, False):
        item.config.stash[_BEGUN] = True
        item.config.hook.pytest_isolation_begins(config=item.config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    _Protocol(item, nextitem).run()
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _has_set_up(node: pytest.Collector) -> bool:
    """Whether setting *node* up, or tearing it down, runs code of its own."""
    kind, plain = type(node), pytest.Collector
    return kind.setup is not plain.setup or kind.teardown is not plain.teardown


class _Protocol:
    """One isolated item, from its set-up to its tear-down."""

    def __init__(self, item: pytest.Item, nextitem: pytest.Item | None) -> None:
        self._item = item
        self._nextitem = nextitem

    def run(self) -> None:
        item: Any = self._item
        if getattr(item, "_request", None) is False:  # the item runs a second time
            item._initrequest()
        try:
            setup = self._call("setup", self._set_up_shared)
            if setup.excinfo is None:
                state = _session(item.config)
                ended = supervise.run(
                    item,
                    _wanted(item, state.facts),
                    state.nurseries,
                    state.stacks,
                    limit=item.stash.get(_LIMIT, None),
                    shared_setup=setup,
                )
            else:
                ended = supervise.Outcome(self._report(setup), None, None)
            self._tear_down(self._look(ended))
        finally:
            if hasattr(item, "_request"):
                item._request = False
                item.funcargs = None

    def _call(self, when: Phase, function: Callable[[], None]) -> CallInfo[None]:
        """Call *function* as part of phase *when*, captured as pytest captures that phase."""
        item = self._item
        hook = _capturing(item.config, when)
        arguments = {"item": item} | ({"nextitem": self._nextitem} if when == "teardown" else {})

        def run() -> None:
            hook.call_extra([function], arguments)

        return CallInfo.from_call(
            run,
            when=when,
            # As pytest does without --pdb, which is refused.
            reraise=(pytest.exit.Exception, KeyboardInterrupt),
        )

    def _report(self, call: CallInfo[None]) -> pytest.TestReport:
        item = self._item
        report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
        if check_interactive_exception(call, report):
            item.ihook.pytest_exception_interact(node=item, call=call, report=report)
        return report

    def _log(self, report: pytest.TestReport) -> None:
        self._item.ihook.pytest_runtest_logreport(report=report)

    def _set_up_shared(self) -> None:
        """Set up what outlives the item: collectors, and fixtures of a wider scope."""
        item: Any = self._item
        precheck(item)
        state = item.session._setupstate
        if any(map(_has_set_up, item.parent.listchain()[len(state.stack) :])):
            _changed(item.config)
        state.setup(item.parent)
        child.set_up_shared_fixtures(item)
        if "tmp_path_factory" in getattr(item, "fixturenames", ()):
            # Made on demand: each child would make another one.
            item._request.getfixturevalue("tmp_path_factory").getbasetemp()

    def _look(self, ended: supervise.Outcome) -> supervise.Outcome:
        """Have the machine looked at, now that nothing of the case runs; log what was held back."""
        hooks: Any = self._item.ihook
        findings = hooks.pytest_isolation_ended(item=self._item)
        held, teardown = ended.held, ended.teardown
        if teardown is not None and teardown.failed and not (held is not None and held.failed):
            teardown = aftermath.charge(self._item, teardown, findings)
        elif held is not None:
            held = aftermath.charge(self._item, held, findings)
        if held is not None:
            self._log(held)
        return supervise.Outcome(None, teardown, ended.last)

    def _tear_down(self, ended: supervise.Outcome) -> None:
        """Tear down what the next item does not share, and report together with the child."""
        item = self._item
        if item.session.shouldfail or item.session.shouldstop:
            self._nextitem = None
        before = len(item._report_sections)
        if self._nextitem is not None and self._nextitem.parent is item.parent:
            # The usual case: nothing is to be torn down, and nothing to be captured of that.
            call = CallInfo.from_call(lambda: None, when="teardown")
        else:
            needed = [] if self._nextitem is None else self._nextitem.listchain()
            state: Any = item.session._setupstate
            if any(
                node not in needed and (_has_set_up(node) or finalizers != [node.teardown])
                for node, (finalizers, _) in state.stack.items()
            ):
                _changed(item.config)
            call = self._call("teardown", lambda: state.teardown_exact(self._nextitem))
        own = [
            (f"Captured {key} {when}", text) for when, key, text in item._report_sections[before:]
        ]
        report = ended.teardown
        if report is None or (call.excinfo is not None and not report.failed):
            in_child, report = report, self._report(call)
            if ended.last is not None:
                # The last report of an item is where junitxml looks for output and properties.
                report.sections = [*ended.last.sections, *own]
                report.user_properties = ended.last.user_properties
            if in_child is not None:
                report.duration += in_child.duration
                report.start = in_child.start
        else:
            report.sections += own
            report.duration += call.duration
            report.stop = call.stop
            if call.excinfo is not None:
                text = str(self._report(call).longrepr)
                report.sections.append(("Error in the tear-down of wider scopes", text))
        merge_sections(report)
        self._log(report)
