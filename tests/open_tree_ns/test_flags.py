# SPDX-License-Identifier: GPL-2.0-only
"""The flags argument: which bits exist, which go together, and what each of them does."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.utils.expect import Outcome, fails, outcome
from tests.utils.model.prediction import namespace_tree, predict_copy
from tests.utils.mounts.trees import tmpfs, write
from tests.utils.uapi.constants import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_RECURSIVE,
    AT_SYMLINK_NOFOLLOW,
    CLONE_NEWNS,
    MOUNT_ATTR_RDONLY,
    OPEN_TREE_CLOEXEC,
    OPEN_TREE_CLONE,
    OPEN_TREE_NAMESPACE,
    OpenTree,
)
from tests.utils.uapi.nsfs import ns_get_nstype
from tests.utils.uapi.statmount import mount_table
from tests.utils.uapi.syscalls import MountAttrStruct, mount, open_tree, open_tree_attr

MAKES_NAMESPACE = "a mount namespace"
MAKES_DETACHED = "an O_PATH descriptor"


def made_by(path: Path, flags: int) -> Outcome:
    """Return what open_tree(2) makes of a directory with *flags*, or the name of the errno."""
    end = outcome(open_tree, AT_FDCWD, path, flags)
    if not isinstance(end.result, int):
        return end
    made = MAKES_DETACHED
    if OPEN_TREE_NAMESPACE in OpenTree(flags):
        is_one = ns_get_nstype(end.result) == CLONE_NEWNS
        made = MAKES_NAMESPACE if is_one else "something else"
    os.close(end.result)
    return Outcome(made, end.call)


def rule_for(flags: OpenTree) -> str:
    """State the rule: at most one of CLONE and NAMESPACE, AT_RECURSIVE only with one of them."""
    makers = flags & (OPEN_TREE_CLONE | OPEN_TREE_NAMESPACE)
    if makers == OPEN_TREE_CLONE | OPEN_TREE_NAMESPACE:
        return "EINVAL"
    if AT_RECURSIVE in flags and not makers:
        return "EINVAL"
    return MAKES_NAMESPACE if OPEN_TREE_NAMESPACE in flags else MAKES_DETACHED


def every_subset() -> list[OpenTree]:
    """Return all 128 combinations of the seven bits that exist."""
    bits = list(OpenTree)
    return [
        OpenTree(sum(chosen))
        for count in range(len(bits) + 1)
        for chosen in itertools.combinations(bits, count)
    ]


@pytest.mark.rule("F1", "F3", "F4")
def test_every_combination_of_known_bits(scratch: Path) -> None:
    """Each of the 128 subsets of the seven known bits does what the rule says, or is EINVAL."""
    leaf = tmpfs(scratch / "leaf")
    subsets = every_subset()
    assert len(subsets) == 128
    found = {flags: made_by(leaf, flags) for flags in subsets}
    assert found == {flags: rule_for(flags) for flags in subsets}


def with_unknown_bits(leaf: Path) -> dict[OpenTree, Outcome]:
    """Return what becomes of OPEN_TREE_NAMESPACE with each of the 25 bits this suite knows not."""
    known = sum(OpenTree)
    unknown = [OpenTree(1 << bit) for bit in range(32) if not known & 1 << bit]
    assert len(unknown) == 25
    return {bit: made_by(leaf, bit | OPEN_TREE_NAMESPACE) for bit in unknown}


@pytest.mark.rule("F2")
def test_every_refused_bit(scratch: Path) -> None:
    """Every other of the 32 bits that is refused with OPEN_TREE_NAMESPACE is refused by EINVAL."""
    found = with_unknown_bits(tmpfs(scratch / "leaf"))
    refused = {bit: end for bit, end in found.items() if end != MAKES_NAMESPACE}
    assert refused == dict.fromkeys(refused, "EINVAL")


@pytest.mark.rule("F2")
@pytest.mark.newer("a flag of open_tree(2) that is younger than this suite")
def test_every_unknown_bit(scratch: Path) -> None:
    """Every other of the 32 bits is refused with OPEN_TREE_NAMESPACE. One that is accepted is the
    flag of a newer kernel, or ignored."""
    found = with_unknown_bits(tmpfs(scratch / "leaf"))
    accepted = {bit: end for bit, end in found.items() if end == MAKES_NAMESPACE}
    assert accepted == {}


@pytest.mark.rule("F5")
@pytest.mark.skipif(ctypes.sizeof(ctypes.c_long) < 8, reason="needs registers of 64 bits")
def test_upper_half_of_the_register_is_ignored(scratch: Path) -> None:
    """The argument is an unsigned int: bits above the 32nd do not count, none of them."""
    leaf = tmpfs(scratch / "leaf")
    expected = predict_copy(leaf, recursive=False).lines()
    upper = [*(1 << bit for bit in range(32, 64)), (1 << 64) - (1 << 32)]

    fds = {bits: open_tree(AT_FDCWD, leaf, bits | OPEN_TREE_NAMESPACE) for bits in upper}

    copies = {hex(bits): namespace_tree(fd).lines() for bits, fd in fds.items()}
    assert copies == dict.fromkeys(copies, expected)


@pytest.mark.rule("F6")
@fixes.DIRECTORIES_ONLY
@pytest.mark.parametrize("kind", ["to_directory", "dangling", "loop"])
def test_nofollow_final_symlink(kind: str, scratch: Path) -> None:
    """AT_SYMLINK_NOFOLLOW on a final symbolic link is ENOTDIR, wherever the link leads."""
    top = tmpfs(scratch / "top")
    (top / "directory").mkdir()
    link = top / "link"
    link.symlink_to({"to_directory": "directory", "dangling": "missing", "loop": "link"}[kind])
    fails(errno.ENOTDIR, open_tree, AT_FDCWD, link, OPEN_TREE_NAMESPACE | AT_SYMLINK_NOFOLLOW)


@pytest.mark.rule("F6")
@pytest.mark.parametrize(
    ("suffix", "flags"),
    [("", OpenTree(0)), ("/", AT_SYMLINK_NOFOLLOW)],
    ids=["follow", "nofollow_trailing_slash"],
)
def test_followed_symlink(suffix: str, flags: OpenTree, scratch: Path) -> None:
    """A link is followed by default, and with a slash behind it even under NOFOLLOW."""
    top = tmpfs(scratch / "top")
    write(top / "directory" / "file.txt")
    (top / "link").symlink_to("directory")
    expected = predict_copy(top / "directory", recursive=False)
    fd = open_tree(AT_FDCWD, f"{top}/link{suffix}", OPEN_TREE_NAMESPACE | flags)
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("F7")
@pytest.mark.parametrize("kind", ["directory", "O_PATH", "open_tree", "AT_FDCWD"])
def test_empty_path_copies_what_dirfd_names(kind: str, scratch: Path) -> None:
    """AT_EMPTY_PATH with "" copies the directory that the descriptor names, of whatever kind."""
    top = tmpfs(scratch / "top")
    directory = top / "directory"
    write(directory / "file.txt")
    expected = predict_copy(directory, recursive=False)
    if kind == "AT_FDCWD":
        os.chdir(directory)
        dirfd = AT_FDCWD
    elif kind == "open_tree":
        dirfd = open_tree(AT_FDCWD, directory, 0)
    else:
        dirfd = os.open(directory, os.O_PATH if kind == "O_PATH" else os.O_RDONLY)
    fd = open_tree(dirfd, "", OPEN_TREE_NAMESPACE | AT_EMPTY_PATH)
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("F8")
def test_empty_path_does_not_take_null(scratch: Path) -> None:
    """AT_EMPTY_PATH does not make NULL a path: EFAULT, unlike some newer calls."""
    dirfd = os.open(tmpfs(scratch / "leaf"), os.O_PATH)
    fails(errno.EFAULT, open_tree, dirfd, None, OPEN_TREE_NAMESPACE | AT_EMPTY_PATH)


@pytest.mark.rule("F9")
@pytest.mark.needs("root", "debugfs automount")
@pytest.mark.parametrize(
    ("flags", "expected"),
    [(OpenTree(0), ("tracefs", "/")), (AT_NO_AUTOMOUNT, ("debugfs", "/tracing"))],
    ids=["trigger", "AT_NO_AUTOMOUNT"],
)
def test_final_automount(flags: OpenTree, expected: tuple[str, str], scratch: Path) -> None:
    """A final automount point is triggered, and what it mounts is copied, unless
    AT_NO_AUTOMOUNT is given: then the directory itself is."""
    (scratch / "debug").mkdir()
    mount("debugfs", scratch / "debug", "debugfs")
    fd = open_tree(AT_FDCWD, scratch / "debug/tracing", OPEN_TREE_NAMESPACE | flags)
    copy = namespace_tree(fd)
    assert (copy.fs_type, copy.mnt_root) == expected


@pytest.mark.rule("F10")
@pytest.mark.parametrize("dirfd", [-1, -errno.EBADF, 1 << 20])
def test_dirfd_does_not_count_for_an_absolute_path(dirfd: int, scratch: Path) -> None:
    """With an absolute path the descriptor is not looked at, however bad it is."""
    leaf = tmpfs(scratch / "leaf")
    expected = predict_copy(leaf, recursive=False)
    fd = open_tree(dirfd, leaf, OPEN_TREE_NAMESPACE)
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("R2", "F11")
def test_close_on_exec_only_when_asked(scratch: Path) -> None:
    """The descriptor is closed on exec exactly when OPEN_TREE_CLOEXEC is given, be it made by
    open_tree(2) or by open_tree_attr(2)."""
    leaf = tmpfs(scratch / "leaf")
    attr = MountAttrStruct()
    found = {}
    for name, flags in (
        ("with", OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC),
        ("without", OPEN_TREE_NAMESPACE),
    ):
        fds = {
            "open_tree": open_tree(AT_FDCWD, leaf, flags),
            "open_tree_attr": open_tree_attr(AT_FDCWD, leaf, flags, attr, ctypes.sizeof(attr)),
        }
        for call, fd in fds.items():
            end = "stays open on exec" if os.get_inheritable(fd) else "is closed on exec"
            found[f"{call} {name} OPEN_TREE_CLOEXEC"] = end

    assert found == {
        "open_tree with OPEN_TREE_CLOEXEC": "is closed on exec",
        "open_tree_attr with OPEN_TREE_CLOEXEC": "is closed on exec",
        "open_tree without OPEN_TREE_CLOEXEC": "stays open on exec",
        "open_tree_attr without OPEN_TREE_CLOEXEC": "stays open on exec",
    }


@pytest.mark.rule("F11")
@pytest.mark.parametrize("attr", [MountAttrStruct(), None], ids=["zeroed", "NULL"])
def test_open_tree_attr_without_attributes(attr: MountAttrStruct | None, scratch: Path) -> None:
    """open_tree_attr(2) that changes nothing makes the namespace as open_tree(2) does."""
    leaf = tmpfs(scratch / "leaf")
    expected = predict_copy(leaf, recursive=False)
    size = ctypes.sizeof(attr) if attr is not None else 0
    fd = open_tree_attr(AT_FDCWD, leaf, OPEN_TREE_NAMESPACE, attr, size)
    assert namespace_tree(fd).lines() == expected.lines()


@pytest.mark.rule("F11")
@pytest.mark.parametrize(
    ("attr", "size"),
    [
        pytest.param(MountAttrStruct(attr_set=MOUNT_ATTR_RDONLY), 32, id="attr_set"),
        pytest.param(MountAttrStruct(attr_clr=MOUNT_ATTR_RDONLY), 32, id="attr_clr"),
        pytest.param(MountAttrStruct(propagation=1 << 18), 32, id="propagation"),
        pytest.param(MountAttrStruct(attr_set=1 << 40), 32, id="unknown_attribute"),
        pytest.param(MountAttrStruct(), 8, id="short"),
        pytest.param(None, 32, id="NULL_with_size"),
    ],
)
def test_open_tree_attr_with_attributes(
    attr: MountAttrStruct | None, size: int, scratch: Path
) -> None:
    """A namespace is no mount, so that any real attribute for it is EINVAL; nothing is made."""
    leaf = tmpfs(scratch / "leaf")
    before = mount_table(), os.listdir("/proc/self/fd")
    fails(errno.EINVAL, open_tree_attr, AT_FDCWD, leaf, OPEN_TREE_NAMESPACE, attr, size)
    assert (mount_table(), os.listdir("/proc/self/fd")) == before
