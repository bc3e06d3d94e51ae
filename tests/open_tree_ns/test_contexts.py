# SPDX-License-Identifier: GPL-2.0-only
"""File system contexts (fsopen(2)) from another user namespace, made mounts and namespaces here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.open_tree_ns.calls import copy
from tests.utils.expect import outcome
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.constants import CLONE_NEWNS, FSCONFIG_CMD_CREATE, FSCONFIG_SET_STRING
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import fsconfig, fsmount, fsopen, unshare


def context_from(become: Callable[[], None], kind: str, layers: str = "") -> int:
    """Return a context of a file system of this *kind* that a child opens after *become*, and tells
    its *layers* where it has some."""

    def work() -> list[int]:
        become()
        fs = fsopen(kind)
        if layers:
            fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", layers)
        return [fs]

    return fds_from_child(work)[0]


def go_below() -> None:
    """Become root of a user namespace below, with a mount namespace of its own."""
    become_foreign()
    unshare(CLONE_NEWNS)


@pytest.mark.rule("P16")
@pytest.mark.needs("user namespace", "overlayfs")
@pytest.mark.upstream("fscontext_ns.overlay.create_from_descendant_userns")
def test_context_from_below(scratch: Path) -> None:
    """A context of overlayfs that was opened in a user namespace below, and is completed here, is
    refused, EINVAL (once EIO), and the kernel's log stays silent. One of tmpfs is not, and makes a
    source."""
    for name in ("a", "b"):
        (scratch / name).mkdir()
    overlay = context_from(go_below, "overlay", f"{scratch}/a:{scratch}/b")
    tmpfs = context_from(go_below, "tmpfs")

    ends = [str(outcome(fsconfig, fs, FSCONFIG_CMD_CREATE)) for fs in (overlay, tmpfs)]

    assert ends in (["EINVAL", "success"], ["EIO", "success"])
    fd = copy("", dirfd=fsmount(tmpfs))
    assert [mount.fs_type for mount in mount_table(ns_fd=fd)] == ["tmpfs"]


@pytest.mark.rule("P16")
@pytest.mark.upstream("fscontext_ns_test.create_from_same_userns")
def test_context_from_beside() -> None:
    """A context that another task of the same user namespace has opened is completed here, and
    makes a source."""
    fs = context_from(lambda: None, "tmpfs")

    fsconfig(fs, FSCONFIG_CMD_CREATE)

    fd = copy("", dirfd=fsmount(fs))
    assert [mount.fs_type for mount in mount_table(ns_fd=fd)] == ["tmpfs"]
