# SPDX-License-Identifier: GPL-2.0-only
"""A filter of system calls is recognised: it ends no run, and nothing of it is the kernel's."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import TypeVar

import pytest

from tests.harness.helpers import filters
from tests.harness.helpers.suite import HEADER, PLUGIN
from tests.utils.probes import flag, probe, seccomp
from tests.utils.probes import namespaces as access
from tests.utils.probes.features import FEATURES
from tests.utils.probes.probe import Missing
from tests.utils.tasks.process import ChildKilled, in_child
from tests.utils.uapi.syscalls import unshare

T = TypeVar("T")
PLUGINS = (
    *PLUGIN,
    "-p",
    "tests.utils.probes.plugin",
    "-p",
    "tests.utils.report.markers",
    "-p",
    "tests.harness.helpers.filters",
)
SIGSYS = "SIGSYS: a seccomp filter kills whoever makes the call (under systemd see SystemCallFilter"
IN_FORCE = "a seccomp filter is in force, and may be why (under systemd see SystemCallFilter=; @sys"
CASES = f"""{HEADER}
pytestmark = [pytest.mark.isolated, pytest.mark.needs(NEED)]
def test_one(): pass
def test_two(): pass
"""


def filtered(how: str, call: str, function: Callable[[], T]) -> T:
    """What *function* returns under a filter, with nothing known from before."""
    if call not in filters.CALLS:
        pytest.skip(f"the number of {call}(2) is not known for this architecture")

    def run() -> T:
        filters.install(how, call)
        for question in (flag.probe, access.mount_ns_missing, access.userns_missing):
            question.cache_clear()
        return function()

    return in_child(run)


def answer() -> tuple[flag.Support, str]:
    found = flag.probe()
    return found.support, found.reason


def test_the_probe_is_killed() -> None:
    assert filtered("kill", "open_tree", answer) == (
        flag.Support.UNCLEAR,
        "cannot tell whether the kernel has OPEN_TREE_NAMESPACE (open_tree(OPEN_TREE_NAMESPACE) on "
        f"a NULL path ended in {SIGSYS}=; @system-service leaves out @mount))",
    )


@pytest.mark.parametrize("name", ["EPERM", "ENOSYS"])
def test_a_filter_answers_the_probe(name: str) -> None:
    support, reason = filtered(name, "open_tree", answer)
    assert support is flag.Support.UNCLEAR
    assert f"on a NULL path gave {name}; {IN_FORCE}" in reason


def test_a_filter_for_something_else_answers_nothing() -> None:
    assert filtered("EPERM", "mount", answer) == answer()


def test_no_process_to_ask_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(function: Callable[[], T]) -> T:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(flag, "in_child", refuse)
    found = flag.probe.__wrapped__()
    assert found.support is flag.Support.UNCLEAR
    assert "was not asked: no child process (Resource temporarily unavailable)" in found.reason


@pytest.mark.parametrize("call", ["unshare", "mount", "capget"])
def test_a_namespace_is_killed_for(call: str) -> None:
    missing = filtered("kill", call, access.mount_ns_missing)
    if call == "capget":
        # Not asked: /proc says it.
        assert missing is None or "SIGSYS" not in missing.reason
        return
    assert missing is not None
    assert not missing.broken
    assert f": it ends in {SIGSYS}" in missing.reason
    assert "cannot make a " in missing.reason


def test_a_namespace_is_refused() -> None:
    missing = filtered("EPERM", "unshare", access.mount_ns_missing)
    assert missing is not None
    assert f"namespace (Operation not permitted): {IN_FORCE}" in missing.reason


def test_a_feature_is_killed_for() -> None:
    assert filtered("kill", "unshare", FEATURES["UTS namespace"]) == Missing(
        "the probe for UTS namespaces (CONFIG_UTS_NS) ended in "
        f"{SIGSYS}=; @system-service leaves out @mount)"
    )


def test_a_probe_that_dies_otherwise_shows_a_fault() -> None:
    missing = probe.ask(lambda: os.kill(os.getpid(), signal.SIGKILL), "it", (), {})
    if missing is not None and "SIGKILL" not in missing.reason:
        pytest.skip(f"no mount namespace here: {missing.reason}")
    assert missing == Missing("the probe for it ended in SIGKILL", broken=True)


def test_the_signal_of_a_child_is_known() -> None:
    with pytest.raises(ChildKilled, match="was killed by SIGSYS without a result") as caught:
        filtered("kill", "unshare", lambda: unshare(0))
    assert seccomp.killed_by_filter(caught.value)


def test_whether_a_filter_is_in_force() -> None:
    assert filtered("EPERM", "open_tree", seccomp.in_force)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
@pytest.mark.parametrize(
    ("rule", "need", "text", "probed"),
    [
        (
            "kill open_tree",
            "OPEN_TREE_NAMESPACE",
            f"a NULL path ended in {SIGSYS}",
            "cannot tell whether the kernel has OPEN_TREE_NAMESPACE (open_tree",
        ),
        (
            "EPERM open_tree",
            "OPEN_TREE_NAMESPACE",
            f"a NULL path gave EPERM; {IN_FORCE}",
            "cannot tell whether the kernel has OPEN_TREE_NAMESPACE (open_tree",
        ),
        ("kill unshare", "mount namespace", f"namespace: it ends in {SIGSYS}", ""),
        (
            "EPERM unshare",
            "mount namespace",
            f"namespace (Operation not permitted): {IN_FORCE}",
            "",
        ),
        ("kill mount", "mount namespace", f"namespace: it ends in {SIGSYS}", ""),
    ],
)
def test_a_run_ends_with_the_reason(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    workers: tuple[str, ...],
    rule: str,
    need: str,
    text: str,
    probed: str,
) -> None:
    if rule.split()[1] not in filters.CALLS:
        pytest.skip(f"{rule}: the number of the call is not known for this architecture")
    monkeypatch.setenv(filters.VARIABLE, rule)
    pytester.makepyfile(CASES.replace("NEED", repr(need)))
    done = pytester.runpytest_subprocess(*PLUGINS, "-rs", *workers)
    assert done.parseoutcomes() == {"skipped": 2}
    output = done.stdout.str()
    assert f"probe: {probed}" in output
    assert text in output[output.index("short test summary") :]
