# SPDX-License-Identifier: GPL-2.0-only
"""File systems that tell of the whole machine (proc, sysfs): when they may be mounted inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, copy_by, enter
from tests.open_tree_ns.trees import small_tree
from tests.utils.expect import outcome
from tests.utils.mounts.trees import bind
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import as_foreign
from tests.utils.uapi.constants import (
    AT_FDCWD,
    CLONE_NEWNET,
    CLONE_NEWPID,
    FSCONFIG_CMD_CREATE,
    FSCONFIG_SET_FLAG,
    FSMOUNT_NAMESPACE,
    MOUNT_ATTR_RDONLY,
    MS_NOATIME,
    MS_RDONLY,
)
from tests.utils.uapi.syscalls import (
    attach,
    fsconfig,
    fsmount,
    fsopen,
    mount,
    mount_setattr,
    unshare,
)

pytestmark = [
    pytest.mark.rule("N9"),
    pytest.mark.needs("user namespace", "network namespace", "proc in a user namespace"),
]

#: To mount sysfs before there is one to see takes root.
KINDS = ("proc", pytest.param("sysfs", marks=pytest.mark.needs("root")))


def mounted(kind: str, flags: int = 0, options: str | None = None) -> str:
    """Mount a new file system of this *kind* at "/dir"; return how that ended."""
    return str(outcome(mount, kind, "/dir", kind, flags, options))


def namespace_of(kind: str) -> str:
    """Make a namespace of a new file system of this *kind* (fsmount(2)); return how that ended."""
    fs = fsopen(kind)
    fsconfig(fs, FSCONFIG_CMD_CREATE)
    return str(outcome(fsmount, fs, FSMOUNT_NAMESPACE))


def inside(top: Path, ask: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Return what *ask* returns to a foreign caller inside its copy of *top*, with PID and network
    namespaces of its own."""

    def act() -> dict[str, str]:
        unshare(CLONE_NEWPID | CLONE_NEWNET)
        enter(copy(top, recursive=True))
        return in_child(ask)

    return in_child(as_foreign(act))


@pytest.mark.parametrize("kind", KINDS)
def test_part_of_it_is_not_visible_enough(kind: str, scratch: Path) -> None:
    """A bind of a part of the file system is no visible one, whole as that part may be: EPERM.
    With the whole of it in the copy, it can be mounted."""
    top = small_tree(scratch)
    whole = scratch / "whole"
    whole.mkdir()
    mount(kind, whole, kind)
    part = next(path for path in sorted(whole.iterdir()) if path.is_dir())
    bind(part, top / "child")

    def ask() -> dict[str, str]:
        return {"mount": mounted(kind)}

    with_part = inside(top, ask)
    bind(whole, top / "whole")

    assert {"part": with_part, "whole": inside(top, ask)} == {
        "part": {"mount": "EPERM"},
        "whole": {"mount": "success"},
    }


@pytest.mark.needs("root")
@pytest.mark.parametrize(("kind", "other"), [("proc", "sysfs"), ("sysfs", "proc")])
def test_another_kind_is_no_visible_one(kind: str, other: str, scratch: Path) -> None:
    """Whole and visible as it is, a sysfs makes no proc admissible, nor a proc a sysfs: EPERM."""
    top = small_tree(scratch)
    mount(other, top / "child", other)

    def ask() -> dict[str, str]:
        return {kind: mounted(kind), other: mounted(other)}

    assert inside(top, ask) == {kind: "EPERM", other: "success"}


@fixes.PROC_OF_PROCESSES
def test_processes_alone_reveal_nothing(scratch: Path) -> None:
    """A proc of processes alone (subset=pid) can be mounted with none in the copy, and makes no
    whole one admissible: EPERM."""
    top = small_tree(scratch)

    def ask() -> dict[str, str]:
        return {
            "processes alone": mounted("proc", options="subset=pid"),
            "whole": mounted("proc"),
        }

    without = inside(top, ask)
    mount("proc", top / "child", "proc", 0, "subset=pid")

    expected = {"processes alone": "success", "whole": "EPERM"}
    assert {"without": without, "with": inside(top, ask)} == {"without": expected, "with": expected}


def test_what_can_be_unmounted_hides_nothing(scratch: Path) -> None:
    """Who mounted something on a part of the copied proc can take it off: it is visible still."""
    top = small_tree(scratch)
    mount("proc", top / "child", "proc")

    def ask() -> dict[str, str]:
        mount("tmpfs", "/child/sys", "tmpfs")
        return {"mount": mounted("proc")}

    assert inside(top, ask) == {"mount": "success"}


def test_read_only_file_system_counts_as_locked(scratch: Path) -> None:
    """When the visible one can be written to as a mount, but not as a file system, the new one
    must be a read-only mount: EPERM."""
    top = small_tree(scratch)
    fs = fsopen("proc")
    fsconfig(fs, FSCONFIG_SET_FLAG, "ro")
    fsconfig(fs, FSCONFIG_CMD_CREATE)
    attach(fsmount(fs), top / "child")

    def ask() -> dict[str, str]:
        return {"writable": mounted("proc"), "read-only": mounted("proc", MS_RDONLY)}

    assert inside(top, ask) == {"writable": "EPERM", "read-only": "success"}


@pytest.mark.needs("root")
def test_what_is_not_locked_need_not_be_alike(scratch: Path) -> None:
    """A proc that came from above by descriptor is not locked: the new one may differ from it in
    its mode of access times."""
    copied = copy_by(Caller.FOREIGN, small_tree(scratch))

    def from_above() -> str:
        fs = fsopen("proc")
        fsconfig(fs, FSCONFIG_CMD_CREATE)
        proc = fsmount(fs)
        enter(copied.ns_fd)
        attach(proc, "/child")
        return mounted("proc", MS_NOATIME)

    assert in_child(from_above) == "success"


def test_locks_of_the_visible_one_are_inherited(scratch: Path) -> None:
    """When the visible one is read-only the new one must be too, and stays so: EPERM; and it must
    have the same access-time mode."""
    top = small_tree(scratch)
    mount("proc", top / "child", "proc", MS_RDONLY)

    def ask() -> dict[str, str]:
        return {
            "writable": mounted("proc"),
            "other access times": mounted("proc", MS_RDONLY | MS_NOATIME),
            "alike": mounted("proc", MS_RDONLY),
            "made writable": str(
                outcome(mount_setattr, AT_FDCWD, "/dir", attr_clr=MOUNT_ATTR_RDONLY)
            ),
        }

    assert inside(top, ask) == {
        "writable": "EPERM",
        "other access times": "EPERM",
        "alike": "success",
        "made writable": "EPERM",
    }


@pytest.mark.needs("FSMOUNT_NAMESPACE")
@pytest.mark.parametrize("kind", KINDS)
def test_fsmount_namespace_is_asked_the_same(kind: str, scratch: Path) -> None:
    """fsmount(FSMOUNT_NAMESPACE) makes a namespace of it only where it could be mounted: EPERM."""
    top = small_tree(scratch)

    def ask() -> dict[str, str]:
        return {"namespace": namespace_of(kind)}

    without = inside(top, ask)
    mount(kind, top / "child", kind)

    assert {"without": without, "with": inside(top, ask)} == {
        "without": {"namespace": "EPERM"},
        "with": {"namespace": "success"},
    }


def test_owner_of_the_namespace_decides(scratch: Path) -> None:
    """It is not the caller who is asked: one from above, with power over the whole machine's
    proc, is EPERM inside a foreign caller's copy without proc, and is not with one."""
    top = small_tree(scratch)
    found = {}
    for name in ("without", "with"):
        if name == "with":
            mount("proc", top / "child", "proc")
        copied = copy_by(Caller.FOREIGN, top)

        def from_above(fd: int) -> str:
            enter(fd)
            return mounted("proc")

        found[name] = in_child(partial(from_above, copied.ns_fd))

    assert found == {"without": "EPERM", "with": "success"}
