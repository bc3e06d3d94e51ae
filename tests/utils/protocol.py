# SPDX-License-Identifier: GPL-2.0-only
"""The pytest process's part of one isolated item, from its set-up to its tear-down.

What is shared (session, package, module and class scope) is set up and torn down here; the rest
happens in the child (see :mod:`tests.utils.child`), whose reports are handed on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pluggy
import pytest
from _pytest.runner import CallInfo, check_interactive_exception

from tests.utils import aftermath, child, memory, sandbox, sources, supervise
from tests.utils.child import Phase
from tests.utils.nursery import Nurseries
from tests.utils.reports import merge_sections


@dataclass(slots=True)
class Session:
    """What the isolated cases of one pytest process share."""

    facts: sandbox.Facts
    nurseries: Nurseries
    #: A file in memory into which a child's faulthandler writes.
    stacks: int


SESSION = pytest.StashKey[Session]()
#: How long an item may take, in seconds: with the item.
LIMIT = pytest.StashKey[float]()
_CAPTURING = pytest.StashKey[dict[str, pluggy.HookCaller]]()


def _wanted(item: pytest.Item, granted: sandbox.Facts) -> sandbox.Facts:
    """The isolation *item* is to have, of what the machine grants."""
    mark = item.get_closest_marker("isolated")
    if mark is None or mark.kwargs.get("pid_namespace", True):
        return granted
    return replace(granted, pid_namespace=False)


def session(config: pytest.Config) -> Session:
    """What the cases share, made for the first of them."""
    state = config.stash.get(SESSION, None)
    if state is None:
        facts = sandbox.facts()
        state = Session(facts, Nurseries(), os.memfd_create("python-stacks"))
        config.stash[SESSION] = state
        sources.rehearse(config)
        if state.nurseries.habits.pay:
            # For the cases that no nursery forks.
            memory.own()
    sources.prime(config)
    return state


def changed(config: pytest.Config) -> None:
    """The state that cases inherit has changed, or is about to (of no interest in a child)."""
    state = config.stash.get(SESSION, None)
    if state is not None and child.current() is None:
        state.nurseries.changed()


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


def _has_set_up(node: pytest.Collector) -> bool:
    """Whether setting *node* up, or tearing it down, runs code of its own."""
    kind, plain = type(node), pytest.Collector
    return kind.setup is not plain.setup or kind.teardown is not plain.teardown


class Protocol:
    """One isolated item: :meth:`run` sees it through and logs all its reports."""

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
                state = session(item.config)
                ended = supervise.run(
                    item,
                    _wanted(item, state.facts),
                    state.nurseries,
                    state.stacks,
                    limit=item.stash.get(LIMIT, None),
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
            changed(item.config)
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
                changed(item.config)
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
