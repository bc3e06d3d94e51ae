# SPDX-License-Identifier: GPL-2.0-only
"""The mount namespaces that appear: which are new, which stay, and who else may have made them."""

from __future__ import annotations

import os
import time

import pytest

from tests.harness.helpers.strangers import namespace
from tests.utils.tasks.process import holding
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.syscalls import mount
from tests.utils.watch import new_namespaces
from tests.utils.watch.new_namespaces import Namespaces, nobody_else_runs

pytestmark = pytest.mark.usefixtures("alone")


@pytest.mark.usefixtures("sight")
def test_a_namespace_that_is_let_go_of_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    namespaces = Namespaces()
    marked = lambda: mount("case-0", "/mnt", "tmpfs")  # noqa: E731
    fds = [namespace(marked)]

    def wait(_seconds: float) -> None:
        while fds:
            os.close(fds.pop())

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", wait)
        assert namespaces.leaked("case-0") == {}
    assert not fds
    fds = [namespace(marked)]
    number = ns_id(fds[0])
    (text,) = namespaces.leaked("case-0").values()
    assert text.startswith("descriptor ")
    assert namespaces.leaked("case-0") == {}
    wait(0)
    assert number not in namespaces.new()
    namespaces.close()


def test_who_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's ancestors and descendants are nobody else."""
    monkeypatch.setattr(new_namespaces, "_link", lambda path: "pid:[4026531836]")
    with holding(os.getpid) as child:
        pid, above = os.getpid(), os.getppid()
        families = {
            "below": {pid: above, above: 0, child.pid: pid},
            "above": {pid: child.pid, child.pid: 0},
            "beside": {pid: above, above: 0, child.pid: above},
        }
        found = {}
        for name, family in families.items():
            monkeypatch.setattr(new_namespaces, "parents", lambda proc, family=family: family)
            found[name] = nobody_else_runs()
    assert found == {"below": True, "above": True, "beside": False}


def test_somebody_runs_where_not_all_can_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_namespaces, "parents", lambda proc: {os.getpid(): 0})
    monkeypatch.setattr(new_namespaces, "_link", lambda path: "pid:[4026532000]")
    assert not nobody_else_runs()


@pytest.mark.usefixtures("sight")
def test_namespaces_there_were_before_are_nobodys() -> None:
    with holding(enter_new_mount_ns) as process:
        namespaces = Namespaces()
        with holding(enter_new_mount_ns) as other:
            new = ns_id(os.open(other.proc("ns/mnt"), os.O_RDONLY))
            assert new in namespaces.new()
            namespaces.accept()
            assert new not in namespaces.new()
        assert ns_id(os.open(process.proc("ns/mnt"), os.O_RDONLY)) not in namespaces.new()
    namespaces.close()
