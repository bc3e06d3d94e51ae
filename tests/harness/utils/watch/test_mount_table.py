# SPDX-License-Identifier: GPL-2.0-only
"""A mount table that is watched: what counts as a change."""

from __future__ import annotations

import os

import pytest

from tests.harness.helpers.callers import user_namespaces
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.uapi.syscalls import mount
from tests.utils.watch.mount_table import MountTable


def test_only_changes_are_read_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    user_namespaces()

    def changes() -> list[list[str]]:
        table = MountTable(os.open("/proc/self/mountinfo", os.O_RDONLY))
        found = [table.changes()]
        mount("tmpfs", "/sys", "tmpfs")
        found.append(table.changes())
        monkeypatch.setattr(MountTable, "_read", lambda self: pytest.fail("read without a need"))
        found.append(table.changes())
        return found

    before, after, again = in_child(in_own_mount_ns(changes))
    assert (before, again) == ([], [])
    (line,) = after
    assert line.startswith("+ ")
    assert " /sys " in line


def test_only_marked_lines_are_compared() -> None:
    """Of the machine's table, what bears the cases' name."""
    user_namespaces()

    def changes() -> list[str]:
        table = MountTable(os.open("/proc/self/mountinfo", os.O_RDONLY), " case-1 ")
        mount("another", "/mnt", "tmpfs")
        mount("case-1", "/sys", "tmpfs")
        mount("case-12", "/tmp", "tmpfs")
        return table.changes()

    (line,) = in_child(in_own_mount_ns(changes))
    assert " /sys " in line
