# SPDX-License-Identifier: GPL-2.0-only
"""Directories of a copy as layers of an overlay file system, which shows them without their
mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import outcome
from tests.utils.mounts.trees import propagation, tmpfs
from tests.utils.uapi.constants import MS_UNBINDABLE
from tests.utils.uapi.fanotify import fanotify_open_watch, opened_files
from tests.utils.uapi.statmount import mnt_id_of, mount_table
from tests.utils.uapi.syscalls import mount

pytestmark = pytest.mark.needs("overlayfs")


def overlay(layer: str) -> str:
    """Mount an overlay of *layer* at "/merged"; return how that ended."""
    return str(outcome(mount, "overlay", "/merged", "overlay", 0, f"lowerdir={layer}:/empty"))


def tree_of_layers(scratch: Path) -> Path:
    """Make a tree with layers "covered", on which a mount covers a secret, and "plain"."""
    top = tmpfs(scratch / "top", "covered/dir/secret", "plain/file")
    tmpfs(top / "covered/dir", "cover")
    propagation(tmpfs(top / "unbindable", "file"), MS_UNBINDABLE)
    for name in ("empty", "merged"):
        (top / name).mkdir()
    return top


@pytest.mark.rule("K12")
def test_layer_below_locked_mounts(caller: Caller, scratch: Path) -> None:
    """A directory below which a locked mount lies is no layer, as its overlay would show what that
    covers: EINVAL. Where nothing is locked it is one, as the bind of it could be had too."""
    top = tree_of_layers(scratch)
    caller.act()
    enter(copy(top, recursive=True))
    before = mount_table()

    covered = overlay("/covered")
    after = mount_table()
    plain = overlay("/plain")

    assert (covered, plain) == ("EINVAL" if caller.foreign else "success", "success")
    if caller.foreign:
        assert after == before
    else:
        assert os.listdir("/merged") == ["file"]


@pytest.mark.rule("C7", "K12")
@pytest.mark.needs("user namespace")
@fixes.KEEP_UNBINDABLE
def test_unbindable_layer(scratch: Path) -> None:
    """An unbindable mount of a foreign copy is no layer either: EINVAL."""
    top = tree_of_layers(scratch)
    Caller.FOREIGN.act()
    enter(copy(top, recursive=True))

    assert [overlay("/unbindable"), overlay("/plain")] == ["EINVAL", "success"]


@pytest.mark.rule("C13")
@pytest.mark.needs("root", "debugfs automount", "fanotify")
@pytest.mark.needs("expendable kernel")  # it crashes without the fix
@fixes.AUTOMOUNT_WITHOUT_NAMESPACE
def test_automount_in_a_layer(scratch: Path) -> None:
    """Through the mount of a layer, on which fanotify gives a descriptor, an automount is not
    triggered: that mount is in no namespace, so that there is nowhere to go, EINVAL."""
    top = tree_of_layers(scratch)
    mount("debugfs", top / "plain", "debugfs")
    enter(copy(top, recursive=True))
    assert overlay("/plain") == "success"
    before = mount_table()
    watch = fanotify_open_watch("/plain", file_system=True)

    os.listdir("/merged")
    (layer,) = {fd for fd in opened_files(watch) if mnt_id_of(fd) != mnt_id_of("/plain")}
    opened = outcome(os.open, "tracing", os.O_RDONLY | os.O_DIRECTORY, dir_fd=layer)

    assert (str(opened), "tracing" in os.listdir(layer)) == ("EINVAL", True)
    assert mount_table() == before
    assert os.listdir("/plain/tracing") != []
