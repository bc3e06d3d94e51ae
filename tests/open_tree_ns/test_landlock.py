# SPDX-License-Identifier: GPL-2.0-only
"""Under Landlock, which denies changes of the mount topology: the flag makes a new one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter_top, mount_points
from tests.utils.expect import outcome
from tests.utils.mounts.trees import tmpfs
from tests.utils.uapi.constants import AT_FDCWD, MNT_DETACH, MS_BIND
from tests.utils.uapi.landlock import restrict_self
from tests.utils.uapi.syscalls import mount, move_mount, pivot_root, umount2


@pytest.mark.rule("U13")
@pytest.mark.needs("Landlock")
@pytest.mark.newer("a right of Landlock that denies it")
def test_domain_that_denies_mounting_denies_no_namespace(caller: Caller, scratch: Path) -> None:
    """In a domain of Landlock no call changes what is mounted, EPERM, here and in the copy; yet the
    copy is made, and entered."""
    top = tmpfs(scratch / "top")
    tmpfs(top / "child", "place/x")
    caller.act()
    restrict_self()

    def changes(top: Path) -> dict[str, str]:
        child = top / "child"
        ends = {
            "mount": outcome(mount, "tmpfs", child / "place", "tmpfs"),
            "bind": outcome(mount, child, child / "place", None, MS_BIND),
            "move": outcome(move_mount, AT_FDCWD, child, AT_FDCWD, child / "place", 0),
            "pivot_root": outcome(pivot_root, child, child / "place"),
        }
        if not caller.foreign:  # to whom the mount is locked, and so EINVAL, first
            ends["umount"] = outcome(umount2, child, MNT_DETACH)
        return {name: str(end) for name, end in ends.items()}

    before = changes(top)
    enter_top(copy(top, recursive=True))
    inside = changes(Path("/"))

    assert before == inside == dict.fromkeys(before, "EPERM")
    assert mount_points() == ["/", "/child"]
