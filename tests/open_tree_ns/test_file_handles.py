# SPDX-License-Identifier: GPL-2.0-only
"""File handles, which lead past paths: to directories that mounts cover, and to namespaces."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import Outcome, outcome
from tests.utils.mounts.settle import gone, settled
from tests.utils.mounts.trees import bind, tmpfs, write
from tests.utils.tasks.process import holding, in_child
from tests.utils.tasks.userns import as_foreign, become_foreign
from tests.utils.uapi.caps import CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, effective, keep_only
from tests.utils.uapi.constants import AT_FDCWD, CLONE_NEWUSER, MNT_DETACH
from tests.utils.uapi.file_handles import (
    FD_NSFS_ROOT,
    FileHandle,
    NsfsFileHandle,
    name_to_handle_at,
    open_by_handle_at,
)
from tests.utils.uapi.nsfs import exists, ns_id, ns_inode
from tests.utils.uapi.syscalls import umount2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def handle_of(path: Path) -> FileHandle:
    """Return the handle of a directory."""
    return name_to_handle_at(AT_FDCWD, path, 0)


@pytest.mark.rule("N11")
@pytest.mark.needs("user namespace", "file handles")
def test_handles_do_not_lead_below_locked_mounts(scratch: Path) -> None:
    """In a foreign copy no handle is decoded below a directory with a locked mount in it, be it the
    handle of what is covered or of another directory: EPERM. Below one without, it is."""
    top = tmpfs(scratch / "top")
    write(top / "covered/hidden/secret")
    write(top / "beside/dir/file")
    handles = {name: handle_of(top / name) for name in ("covered/hidden", "beside/dir")}
    tmpfs(top / "covered")
    become_foreign()
    enter(copy(top, recursive=True))
    below = {name: os.open(name, _DIRECTORY) for name in ("/", "/beside")}

    got = {
        (where, name): outcome(open_by_handle_at, below[where], handle, _DIRECTORY)
        for where in below
        for name, handle in handles.items()
    }

    assert got == {
        ("/", "covered/hidden"): "EPERM",
        ("/", "beside/dir"): "EPERM",
        ("/beside", "covered/hidden"): "ESTALE",
        ("/beside", "beside/dir"): "success",
    }


@pytest.mark.rule("N11")
@pytest.mark.needs("user namespace", "file handles")
def test_handles_take_power_over_the_namespace(scratch: Path) -> None:
    """A foreign caller decodes handles in a namespace of its own, of directories, with
    CAP_DAC_READ_SEARCH there: EPERM in the one that it came from, and for a file, and without."""
    top = tmpfs(scratch / "top")
    write(top / "dir/file")
    handles = {name: handle_of(top / name) for name in ("dir", "dir/file")}
    outside = os.open(top, _DIRECTORY)
    become_foreign()
    copied = copy(top)

    def ask(mount_fd: int, name: str, flags: int) -> Outcome:
        return outcome(open_by_handle_at, mount_fd, handles[name], flags)

    found = {"where it came from": ask(outside, "dir", _DIRECTORY)}
    enter(copied)
    inside = os.open("/", _DIRECTORY)
    found["in its own"] = ask(inside, "dir", _DIRECTORY)
    found["a directory, not said to be one"] = ask(inside, "dir", os.O_RDONLY)
    found["a file"] = ask(inside, "dir/file", os.O_RDONLY)
    with effective(1 << CAP_SYS_ADMIN):
        found["without CAP_DAC_READ_SEARCH"] = ask(inside, "dir", _DIRECTORY)

    assert found == {
        "where it came from": "EPERM",
        "in its own": "success",
        "a directory, not said to be one": "EPERM",
        "a file": "EPERM",
        "without CAP_DAC_READ_SEARCH": "EPERM",
    }


@pytest.mark.rule("N11")
@pytest.mark.needs("root", "file handles")
def test_handles_for_who_may_read_all(scratch: Path) -> None:
    """Whoever has CAP_DAC_READ_SEARCH in the initial user namespace decodes those of files, too."""
    top = tmpfs(scratch / "top")
    write(top / "dir/file")
    handle = handle_of(top / "dir/file")
    enter(copy(top))
    inside = os.open("/", _DIRECTORY)

    with effective(1 << CAP_DAC_READ_SEARCH):
        end = outcome(open_by_handle_at, inside, handle, os.O_RDONLY)

    assert end == "success"


@pytest.mark.rule("N11")
# Root, to make what others own.
@pytest.mark.needs("root", "user namespace", "file handles")
def test_handles_do_not_lead_past_ids_that_the_caller_lacks(scratch: Path) -> None:
    """In a foreign copy no handle is decoded of a directory whose owner or group the caller's user
    namespace does not know, nor of one below it: ESTALE. Of others, it is."""
    top = tmpfs(scratch / "top")
    for name in ("known/own", "known/of a stranger", "known/of strangers", "strange/own"):
        (top / name).mkdir(parents=True)
    os.chown(top / "known/of a stranger", 5, -1)
    os.chown(top / "known/of strangers", -1, 5)
    os.chown(top / "strange", 5, 5)
    handles = {
        str(path.relative_to(top)): handle_of(path) for path in (*top.glob("*"), *top.glob("*/*"))
    }
    become_foreign()
    enter(copy(top, recursive=True))
    root = os.open("/", _DIRECTORY)

    got = {
        name: outcome(open_by_handle_at, root, handle, _DIRECTORY)
        for name, handle in handles.items()
    }

    assert got == {
        "known": "success",
        "known/own": "success",
        "known/of a stranger": "ESTALE",
        "known/of strangers": "ESTALE",
        "strange": "ESTALE",
        "strange/own": "ESTALE",
    }


@pytest.mark.rule("N11")
@pytest.mark.needs("user namespace", "file handles")
def test_handles_on_ones_own_file_system_lead_anywhere(scratch: Path) -> None:
    """On a file system that was mounted inside, a handle leads from any directory to any other, be
    it covered: whoever mounted it sees it whole."""
    top = tmpfs(scratch / "top")
    become_foreign()
    enter(copy(top, recursive=True))
    own = tmpfs(Path("/own"))
    write(own / "covered/hidden/file")
    write(own / "beside/file")
    handle = handle_of(own / "covered/hidden")
    tmpfs(own / "covered")
    beside = os.open(own / "beside", _DIRECTORY)

    hidden = open_by_handle_at(beside, handle, _DIRECTORY)

    assert os.listdir(hidden) == ["file"]


@pytest.mark.rule("N11")
@pytest.mark.needs("user namespace", "file handles")
@pytest.mark.upstream("locked_handle.allowed_use")
def test_handles_lead_nowhere_once_unmounted(scratch: Path) -> None:
    """Through a directory of a mount that was lazily unmounted no handle is decoded, whether locked
    mounts were on it or none: EPERM."""
    top = tmpfs(scratch / "top", "plain/dir/file", "tree/covered/hidden/secret")
    handles = {"/one": handle_of(top / "plain/dir"), "/two": handle_of(top / "tree/covered/hidden")}
    tmpfs(top / "tree/covered")
    for name in ("one", "two"):
        (top / name).mkdir()
    become_foreign()
    enter(copy(top, recursive=True))
    bind(Path("/plain"), Path("/one"))
    bind(Path("/tree"), Path("/two"), recursive=True)
    held = {path: os.open(path, _DIRECTORY) for path in handles}

    def decoded() -> dict[str, Outcome]:
        return {
            path: outcome(open_by_handle_at, held[path], handle, _DIRECTORY)
            for path, handle in handles.items()
        }

    mounted = decoded()
    for path in handles:
        umount2(path, MNT_DETACH)

    assert mounted == {"/one": "success", "/two": "EPERM"}
    assert decoded() == {"/one": "EPERM", "/two": "EPERM"}


@pytest.mark.rule("R10")
@pytest.mark.needs("sight of all namespaces", "file handles")
@pytest.mark.isolated(pid_namespace=False)
@pytest.mark.upstream("file_handle_test.nsfs_mnt_handle")
def test_handle_of_the_namespace(scratch: Path) -> None:
    """Who may see all namespaces opens one by its handle, as long as it is active: the handle holds
    nothing, and revives none that is held and cannot be entered any more."""
    fd = copy(tmpfs(scratch / "leaf"))
    mnt_ns_id = ns_id(fd)
    handle = name_to_handle_at(fd)

    def reopened() -> str:
        end = outcome(open_by_handle_at, FD_NSFS_ROOT, handle)
        if isinstance(end.result, int):
            os.close(end.result)
        return str(end)

    opened = open_by_handle_at(FD_NSFS_ROOT, handle, os.O_RDONLY | os.O_CLOEXEC)
    assert (ns_inode(opened), os.get_inheritable(opened)) == (ns_inode(fd), False)
    os.close(fd)
    assert exists(mnt_ns_id)
    with holding(partial(enter, opened)) as task:
        mountinfo = os.open(task.proc("mountinfo"), os.O_RDONLY)
        os.close(opened)
    inactive = settled(reopened, "ESTALE")
    os.close(mountinfo)
    ended = gone(mnt_ns_id)
    past = reopened()

    assert {"inactive": inactive, "ended": past} == {"inactive": "ESTALE", "ended": "ESTALE"}
    assert ended, "a handle keeps the namespace"


@pytest.mark.rule("R10")
@fixes.HANDLE_PERMISSION
@pytest.mark.needs("nested user namespace", "file handles")
@pytest.mark.upstream("file_handle_test.nsfs_user_mnt_namespace_isolation")
def test_handle_for_the_unprivileged(scratch: Path) -> None:
    """Others open by handle the namespace they are in, which takes no capability, and no other:
    ESTALE, though it be owned by their own user namespace. What is refused holds nothing."""
    leaf = tmpfs(scratch / "leaf")
    become_foreign()  # who is privileged over the machine opens all
    fd = copy(leaf)
    mnt_ns_id = ns_id(fd)
    handle = name_to_handle_at(fd)

    def inside() -> Outcome:
        enter(fd)
        keep_only()
        return outcome(open_by_handle_at, FD_NSFS_ROOT, handle)

    def outside() -> Outcome:
        return outcome(open_by_handle_at, FD_NSFS_ROOT, handle)

    got = {
        "inside": in_child(inside),
        "its owner, outside": in_child(outside),
        "foreign": in_child(as_foreign(outside)),
    }
    os.close(fd)

    assert got == {"inside": "success", "its owner, outside": "ESTALE", "foreign": "ESTALE"}
    assert gone(mnt_ns_id), "a refused call holds the namespace"


@pytest.mark.rule("R10")
@pytest.mark.needs("file handles")
def test_handle_that_does_not_agree_names_nothing(scratch: Path) -> None:
    """A handle names a namespace by its id, or by id, type and inode number together, which must be
    those of one namespace: ESTALE. It is never shorter than the three."""
    fd = copy(tmpfs(scratch / "leaf"))
    named = NsfsFileHandle.of(name_to_handle_at(fd))
    enter(fd)
    handles = {
        "as it is": named.handle(),
        # Behind it lies what was there a moment ago, or zeros: either would do.
        "cut short": named.handle(less=8),
        "id alone": named._replace(ns_type=0, ns_inum=0).handle(),
        "no id": named._replace(ns_id=0).handle(),
        "no inode number": named._replace(ns_inum=0).handle(),
        "no type": named._replace(ns_type=0).handle(),
        "another inode number": named._replace(ns_inum=named.ns_inum + 1).handle(),
        "another type": named._replace(ns_type=CLONE_NEWUSER).handle(),
        "the id of none": named._replace(ns_id=(1 << 64) - 1).handle(),
        "and zeros": named.handle(more=bytes(8)),
        "another kind": named._replace(handle_type=1).handle(),
    }

    got = {name: outcome(open_by_handle_at, FD_NSFS_ROOT, it) for name, it in handles.items()}

    good = ("as it is", "id alone", "and zeros")
    assert got == {name: "success" if name in good else "ESTALE" for name in handles}


@pytest.mark.rule("R14")
@pytest.mark.needs("file handles")
@pytest.mark.finding("A namespace's file handle is good whatever follows it")
def test_what_follows_in_a_larger_handle_is_zeros(scratch: Path) -> None:
    """A handle that says more than the kernel understands names nothing: ESTALE."""
    fd = copy(tmpfs(scratch / "leaf"))
    named = NsfsFileHandle.of(name_to_handle_at(fd))
    enter(fd)

    end = outcome(open_by_handle_at, FD_NSFS_ROOT, named.handle(more=b"\xff" * 8))

    assert end == "ESTALE"
