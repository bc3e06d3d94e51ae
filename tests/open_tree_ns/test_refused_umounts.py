# SPDX-License-Identifier: GPL-2.0-only
"""What umount2(2) refuses inside the new namespace, what it leaves, and what takes privilege."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, enter, enter_top
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.trees import bind, tmpfs
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import become_foreign
from tests.utils.uapi.caps import effective
from tests.utils.uapi.constants import (
    AT_FDCWD,
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    MOUNT_ATTR_RDONLY,
    MOVE_MOUNT_F_EMPTY_PATH,
    MS_BIND,
    MS_MOVE,
    MS_RDONLY,
    MS_REMOUNT,
    MS_SHARED,
)
from tests.utils.uapi.fuse import SlowFile
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import closing_fd, mount, mount_setattr, move_mount, umount2


def tree(scratch: Path) -> Path:
    """Make a tmpfs with the mounts /new and /other, each with a directory dir."""
    top = tmpfs(scratch / "top")
    for place in (top, tmpfs(top / "new"), tmpfs(top / "other")):
        (place / "dir").mkdir()
    return top


@pytest.mark.rule("N18")
def test_what_cannot_be_unmounted(scratch: Path) -> None:
    """umount2(2) inside refuses a directory of a mount, a mount of another namespace, the base,
    and a mount in use, which goes lazily."""
    outside, held = os.open(tmpfs(scratch / "outside"), os.O_PATH), current_mnt_ns()
    fd = copy(tree(scratch), recursive=True)
    enter(fd)
    used = os.open("/other/dir", os.O_RDONLY)
    before = mount_table()

    got = {
        "no mount": outcome(umount2, "/new/dir"),
        "no mount, lazily": outcome(umount2, "/new/dir", MNT_DETACH),
        "unknown flag": outcome(umount2, "/new", 1 << 4),
        "in use": outcome(umount2, "/other"),
    }
    os.fchdir(outside)
    got["another namespace's"] = outcome(umount2, ".")
    got["another namespace's, lazily"] = outcome(umount2, ".", MNT_DETACH)

    assert got == {**dict.fromkeys(got, "EINVAL"), "in use": "EBUSY"}
    assert mount_table() == before
    umount2("/other", MNT_DETACH)
    assert [mount.mnt_point for mount in mount_table()] == ["/", "/new"]
    os.close(used)
    os.close(held)


@pytest.mark.rule("N20")
def test_what_is_marked_to_expire(caller: Caller, scratch: Path) -> None:
    """umount2(2) with MNT_EXPIRE marks a mount at first, EAGAIN, and takes it when it is called
    again with no use between; a use takes the mark off, and a copy has none. A mount in use, or
    with another on it, is EBUSY; the root, and any other flag besides, EINVAL."""
    top = tree(scratch)
    source = top / "new"
    marked = outcome(umount2, source, MNT_EXPIRE)
    caller.act()
    enter_top(copy(top, recursive=True))
    own = tmpfs(Path("/dir"))
    for name in ("place", "expires"):
        (own / name).mkdir()
    expires = tmpfs(own / "expires")
    used = tmpfs(own / "place")

    def expire(path: str | Path) -> Outcome:
        return outcome(umount2, path, MNT_EXPIRE)

    got = {"copy of a marked one": expire("/new"), "with a mount on it": expire(own)}
    with closing_fd(os.open(used, os.O_RDONLY)):
        got["in use"] = expire(used)
    got["lazily"] = outcome(umount2, used, MNT_EXPIRE | MNT_DETACH)
    got["by force"] = outcome(umount2, used, MNT_EXPIRE | MNT_FORCE)
    got["root"] = expire("/")
    got["at first"] = expire(expires)
    os.listdir(expires)
    got["used since"] = expire(expires)
    got["again"] = expire(expires)

    assert (marked, got) == (
        "EAGAIN",
        {
            "copy of a marked one": "EINVAL" if caller.foreign else "EAGAIN",  # it is locked
            "with a mount on it": "EBUSY",
            "in use": "EBUSY",
            "lazily": "EINVAL",
            "by force": "EINVAL",
            "root": "EINVAL",
            "at first": "EAGAIN",
            "used since": "EAGAIN",
            "again": "success",
        },
    )


@pytest.mark.rule("N18")
def test_what_a_foreign_caller_cannot_unmount(scratch: Path) -> None:
    """A file system of another user namespace's is not unmounted by force, nor made read-only by
    an umount(2) of the root: EPERM. A bind of one's own can be unmounted."""
    top = tree(scratch)
    become_foreign()
    enter_top(copy(top, recursive=True))
    bind(Path("/new"), Path("/dir"))
    before = mount_table()

    forced = outcome(umount2, "/dir", MNT_FORCE)
    os.chroot("/dir")
    root = outcome(umount2, "/")

    assert (forced, root) == ("EPERM", "EPERM")
    assert outcome(os.mkdir, "/writable") == "success"
    os.chdir("/")
    assert outcome(umount2, ".", MNT_DETACH) == "success"
    assert len(mount_table()) < len(before)


@pytest.mark.rule("N18")
@pytest.mark.needs("FUSE")
def test_force_ends_the_file_system_and_nothing_else_does(scratch: Path) -> None:
    """An umount2(2) inside leaves the file system to its other mounts, unless it was by force:
    that ends it for all of them."""
    top = tmpfs(scratch / "top")
    served = SlowFile(top / "file")

    def unmount_inside(flags: int) -> None:
        enter(copy(top, recursive=True))
        umount2("/file", flags)

    found = {}
    for way, flags in {"plainly": 0, "lazily": MNT_DETACH, "by force": MNT_FORCE}.items():
        served.serve_until_read(0)  # the first request of all is there from the start
        in_child(partial(unmount_inside, flags))
        found[way] = outcome(served.serve_until_read, 0)

    assert found == {"plainly": "success", "lazily": "success", "by force": "ENODEV"}


@pytest.mark.rule("N19")
def test_nothing_changes_without_privilege(caller: Caller, scratch: Path) -> None:
    """Whoever stands inside without CAP_SYS_ADMIN neither mounts, moves, changes nor unmounts."""
    top = tree(scratch)
    caller.act()
    enter_top(copy(top, recursive=True))
    own = tmpfs(Path("/dir"))
    (own / "place").mkdir()
    calls: dict[str, Callable[[], object]] = {
        "mount": partial(mount, "new", own / "place", "tmpfs"),
        "bind": partial(mount, "/new", own / "place", None, MS_BIND),
        "remount": partial(mount, None, own, None, MS_REMOUNT | MS_BIND | MS_RDONLY),
        "share": partial(mount, None, own, None, MS_SHARED),
        "move": partial(mount, own, "/new/dir", None, MS_MOVE),
        "move_mount": partial(move_mount, AT_FDCWD, own, AT_FDCWD, "/new/dir", 0),
        "attach": partial(
            move_mount, clone("/new"), "", AT_FDCWD, own / "place", MOVE_MOUNT_F_EMPTY_PATH
        ),
        "mount_setattr": partial(mount_setattr, AT_FDCWD, own, attr_set=MOUNT_ATTR_RDONLY),
        "clone": partial(clone, own),
        "copy": partial(copy, own),
        "umount": partial(umount2, own),
        "umount, lazily": partial(umount2, own, MNT_DETACH),
    }
    before = mount_table()

    with effective(0):
        got = {name: outcome(call) for name, call in calls.items()}

    assert got == dict.fromkeys(calls, "EPERM")
    assert mount_table() == before
