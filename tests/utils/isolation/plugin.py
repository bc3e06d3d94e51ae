# SPDX-License-Identifier: GPL-2.0-only
"""pytest plugin: each case marked ``isolated`` runs in a forked child of its own.

Set-up, call and tear-down run in the child; nothing that they do to namespaces, credentials, root
or descriptors reaches the pytest process. That forks, supervises, and hands on the child's reports
as they come. Nothing is set up once for several isolated cases: a fixture of a wider scope than the
function is refused. Without ``isolated`` pytest runs an item as ever.

A plugin that can tell without running a case that it must be skipped implements
``pytest_isolation_precheck(item)`` and calls ``pytest.skip``: that costs no fork.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.utils import pytest_internals
from tests.utils.isolation import child, findings, prefault, sandbox, sources, supervisor
from tests.utils.isolation.zygote import Zygotes
from tests.utils.pytest_internals import CallInfo
from tests.utils.uapi.syscalls import closing_fd

#: How long an item may take, in seconds: with the item.
_LIMIT = pytest.StashKey[float]()
_SESSION = pytest.StashKey["_Session"]()


class Hooks:
    """The hooks this plugin adds."""

    @pytest.hookspec
    def pytest_isolation_precheck(self, item: pytest.Item) -> None:
        """Called before *item* is set up, in the pytest process; isolated or not.

        Call ``pytest.skip`` when the item cannot run here (or ``pytest.fail`` when that is an
        error). The report is located at the item. Must have no side effects.
        """


class _Session:
    """What the isolated cases of one pytest process share."""

    def __init__(self, config: pytest.Config) -> None:
        if prefault.is_user_mode_linux():
            # Before the probes: each is a fork of this process.
            with closing_fd(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as proc:
                prefault.unshare_memory(proc)
        self._facts = sandbox.facts()
        #: A file in memory into which a child's faulthandler writes.
        self.stacks = os.memfd_create("python-stacks")
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self.zygotes = Zygotes(self._run_child)
        sources.preload_failure_formatting(config)

    def _run_child(
        self,
        item: pytest.Item,
        granted: sandbox.Facts,
        events: int,
        write_set: prefault.WriteSet | None,
    ) -> NoReturn:
        case = child.Child(item, granted, events, self.stacks, self._mask)
        case.run(write_set)

    def wanted(self, item: pytest.Item) -> sandbox.Facts:
        """Return the isolation that *item* is to have, of what the machine grants."""
        mark, granted = item.get_closest_marker("isolated"), self._facts
        asked = mark.kwargs if mark is not None else {}
        if asked.get("machine_root", False):
            granted = sandbox.on_machines_root(granted)
        if not asked.get("pid_namespace", True):
            granted = replace(granted, pid_namespace=False)
        return granted

    def close(self) -> None:
        """End all processes, and close the descriptors."""
        self.zygotes.close()
        os.close(self.stacks)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)
    pluginmanager.add_hookspecs(findings.Hooks)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "isolated(pid_namespace=True, machine_root=False): run the case in a forked child with "
        "namespaces of its own; without one for PIDs where that would be in the way; with a copy "
        "of the machine's mounts in place of a small root of the run's own",
    )
    if config.getoption("forked", False):
        raise pytest.UsageError(
            "--forked (pytest-forked) cannot be combined with this suite: its cases are isolated"
            " in forked children already\nhint: run without --forked or with -p no:pytest_forked"
        )
    basetemp = config.getoption("basetemp", None)
    sandbox.keep_visible(
        config.rootpath, config.invocation_params.dir, *([Path(basetemp)] if basetemp else [])
    )


def pytest_collection_finish(session: pytest.Session) -> None:
    isolated = [item for item in session.items if is_isolated(item)]
    for option, name in (("usepdb", "--pdb"), ("trace", "--trace")):
        if session.config.getoption(option, False) and isolated:
            raise pytest.UsageError(
                f"{name} needs the terminal, which an isolated case does not have"
                "\nhint: deselect the isolated cases (-m 'not isolated') or run without it"
            )
    for item in isolated:
        for name, scope, pytests_own in pytest_internals.fixtures_of(item):
            # pytest's own hold nothing that a case could change.
            if scope != "function" and not pytests_own:
                raise pytest.UsageError(
                    f"{item.nodeid}: an isolated case cannot use {name}, a fixture of the scope"
                    f" {scope}: each case has a process of its own"
                    '\nhint: give the fixture the scope "function"'
                )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = (report for group in terminalreporter.stats.values() for report in group)
    any_isolated = any("isolated" in getattr(report, "keywords", ()) for report in reports)
    if any_isolated and (reason := sandbox.facts().reason):
        terminalreporter.line(f"isolation: {reason}")


def pytest_unconfigure(config: pytest.Config) -> None:
    state = config.stash.get(_SESSION, None)
    if state is not None:
        del config.stash[_SESSION]
        state.close()


def is_isolated(item: pytest.Item) -> bool:
    """Return whether *item* runs in a child of its own."""
    return item.get_closest_marker("isolated") is not None


@pytest.fixture
def scratch() -> Path:
    """The directory of an empty tmpfs which no other case sees, in a private mount namespace."""
    running = child.current()
    if running is None:
        raise pytest.UsageError("a case asks for `scratch` and is not isolated")
    if running.facts.scratch is None:
        pytest.skip(running.facts.reason)
    return running.facts.scratch


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


# --- in the child: forks of a case must not run pytest a second time ------------------------------


def _guarded() -> Generator[None, Any, Any]:
    running = child.current()
    if running is None:
        return (yield)
    with running.exit_stray_forks():
        return (yield)


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    if not is_isolated(item):
        _precheck(item)
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call() -> Generator[None, Any, Any]:
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_fixture_setup() -> Generator[None, Any, Any]:
    return (yield from _guarded())


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown() -> Generator[None, Any, Any]:
    result = yield from _guarded()
    running = child.current()
    if running is not None:
        running.fail_for_leftovers()
    return result


# --- in the pytest process ------------------------------------------------------------------------


def _precheck(item: pytest.Item) -> None:
    """Ask all plugins whether *item* can run here; a skip is located at the item."""
    try:
        hooks: Any = item.ihook
        hooks.pytest_isolation_precheck(item=item)
    except pytest.skip.Exception as skipped:
        pytest_internals.locate_at_item(skipped)
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    config = item.config
    state = config.stash.get(_SESSION, None)
    if not is_isolated(item):
        if state is not None:
            # It may change what cases inherit.
            state.zygotes.close()
        return None
    if state is None:
        hooks: Any = config.hook
        hooks.pytest_isolation_begins(config=config)
        state = config.stash[_SESSION] = _Session(config)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    _run(state, item, nextitem)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _report(item: pytest.Item, call: CallInfo[None]) -> pytest.TestReport:
    report: pytest.TestReport = item.ihook.pytest_runtest_makereport(item=item, call=call)
    if pytest_internals.check_interactive_exception(call, report):
        item.ihook.pytest_exception_interact(node=item, call=call, report=report)
    return report


def _prepare(item: pytest.Item) -> None:
    """Do what a case's set-up takes that is better done here, or must be."""
    # A mark that skips costs no fork, and one that expects a failure holds for a death, too.
    pytest_internals.evaluate_marks(item)
    _precheck(item)
    if "tmp_path_factory" in getattr(item, "fixturenames", ()):
        # Made on demand: each child would make another one.
        pytest_internals.temporary_base(item.config, make=True)


def _run(state: _Session, item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Run *item* in a child and log all its reports."""
    ending = (pytest.exit.Exception, KeyboardInterrupt)
    run = supervisor.Run(item, item.stash.get(_LIMIT, None), state.stacks)
    check = CallInfo.from_call(lambda: _prepare(item), when="setup", reraise=ending)
    if check.excinfo is not None:
        run.held = _report(item, check)
    else:
        try:
            run.run(state.zygotes, state.wanted(item))
        except BaseException:
            run.log_held()
            raise
    teardown = _torn_down(run, item, nextitem)
    held = run.held
    found = item.ihook.pytest_isolation_ended(item=item)
    if teardown.failed and not (held is not None and held.failed):
        teardown = findings.charge(item, teardown, found)
    elif held is not None:
        held = findings.charge(item, held, found)
    for report in (held, teardown):
        if report is not None:
            item.ihook.pytest_runtest_logreport(report=report)


def _torn_down(
    run: supervisor.Run, item: pytest.Item, nextitem: pytest.Item | None
) -> pytest.TestReport:
    """Tear down what items that are not isolated have set up and *nextitem* does not need; return
    the report of *item*'s tear-down."""
    session = item.session
    if session.shouldfail or session.shouldstop:
        nextitem = None
    call = CallInfo.from_call(
        lambda: pytest_internals.tear_down(session, nextitem), when="teardown"
    )
    report = run.teardown
    if report is None or (call.excinfo is not None and not report.failed):
        before, report = report or run.held, _report(item, call)
        if before is not None:
            # The last report of an item is where junitxml looks for output and properties.
            report.sections = list(before.sections)
            report.user_properties = before.user_properties
    return report
