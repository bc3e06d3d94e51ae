# SPDX-License-Identifier: GPL-2.0-only
"""The calls that every case makes are asked for once, under real filters of system calls.

That all cases are skipped for that, on a kernel with the flag, is seen in vm/guests.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from tests.harness.helpers import filters
from tests.utils.probes import calls, emulation, flag, plugin
from tests.utils.probes import namespaces as access
from tests.utils.probes.flag import Probe, Support
from tests.utils.probes.probe import Missing
from tests.utils.tasks.process import in_child
from tests.utils.uapi.syscalls import NR_STATMOUNT


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    if missing := access.mount_ns_missing():
        pytest.skip(missing.reason)


def under(*rules: str) -> Missing | None:
    """What is missing under filters."""

    def ask() -> Missing | None:
        for rule in rules:
            filters.install(*rule.split())
        calls.missing.cache_clear()
        return calls.missing()

    return in_child(ask)


def test_nothing_is_missing_where_nothing_is_refused() -> None:
    answers = calls._asked(calls._answers)
    if errno.ENOSYS in answers.values():
        pytest.skip("this kernel is older than the calls")
    # What a kernel with the call says to such arguments.
    assert set(answers.values()) <= {errno.EFAULT, errno.EINVAL, errno.EBADF}
    assert calls.missing() is None


@pytest.mark.parametrize("name", ["EPERM", "ENOSYS"])
@pytest.mark.parametrize("call", ["statmount", "listmount", "fsopen", "move_mount"])
def test_a_filter_that_refuses_a_call_is_a_reason_to_skip(name: str, call: str) -> None:
    missing = under(f"{name} {call}")
    assert missing is not None
    assert not missing.broken
    assert missing.reason.startswith(f"{call}(2) gave {name}: a seccomp filter is in force")


def test_all_that_are_refused_are_named() -> None:
    missing = under("EPERM statmount", "ENOSYS listmount")
    assert missing is not None
    assert missing.reason.startswith("statmount(2) gave EPERM, listmount(2) gave ENOSYS: ")


def test_a_filter_that_kills_is_named_with_the_calls_it_kills_for() -> None:
    missing = under("kill fsopen", "kill move_mount")
    assert missing is not None
    assert not missing.broken
    assert missing.reason.startswith("fsopen(2), move_mount(2) ended in SIGSYS: a seccomp filter")


def test_a_namespace_that_may_not_be_made_is_told_elsewhere() -> None:
    assert under("EPERM unshare") is None


def test_without_a_filter_it_is_the_kernels_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(calls._CALLS, "statmount", (NR_STATMOUNT + 100_000, 0, 0, 0, 0))
    missing: Callable[[], Missing | None] = calls.missing.__wrapped__
    found = missing()
    assert found is not None
    if "seccomp" in found.reason:
        pytest.skip("this process is under a filter")
    assert found.broken
    assert found.reason.startswith("statmount(2) gave ENOSYS, though the kernel has the flag")
    monkeypatch.setattr(emulation, "emulator", lambda: "qemu-aarch64")
    found = missing()
    assert found is not None
    assert not found.broken
    assert "gave ENOSYS: qemu-aarch64 emulates another processor here" in found.reason


def test_a_kernel_with_the_flag_is_asked_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking = Missing("statmount(2) gave EPERM")
    monkeypatch.setattr(flag, "probe", lambda: Probe(Support.PRESENT, errno.EFAULT))
    monkeypatch.setattr(calls, "missing", lambda: lacking)
    assert plugin._need_flag() is lacking
    monkeypatch.setattr(flag, "probe", lambda: Probe(Support.ABSENT, errno.EINVAL))
    monkeypatch.setattr(calls, "missing", lambda: pytest.fail("asked, where nothing will run"))
    found = plugin._need_flag()
    assert found is not None
    assert "no OPEN_TREE_NAMESPACE" in found.reason
    assert os.getpid()
