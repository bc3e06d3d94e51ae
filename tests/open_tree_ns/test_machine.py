# SPDX-License-Identifier: GPL-2.0-only
"""The machine's own "/" as a source, with whatever a distribution has mounted there.

The other cases build what they copy on a root of the suite's own. Here a case lives in a private
copy of the machine's mounts: sub-volumes, overlays, automounts, FUSE, binds of namespaces' files
(but for those of mount namespaces, which no such copy has), mounts that others cover. Somebody who
removes a mount point takes its mounts along, in every namespace and at any time. A copy is
therefore judged only when the table is the same before and after it. Nobody but the case can mount
anything there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.expect import errno_name
from tests.utils.model.prediction import namespace_tree, predict, predict_refusal
from tests.utils.mounts.settle import gone
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_mount_ns
from tests.utils.uapi.constants import MNT_DETACH, MS_PRIVATE, MS_REC, MS_SHARED
from tests.utils.uapi.nsfs import ns_id
from tests.utils.uapi.statmount import Mount, mnt_id_of, mount_table, statmount
from tests.utils.uapi.syscalls import mount, umount2

T = TypeVar("T")

#: How often to look again where the table has changed meanwhile.
_TRIES = 20
#: In place of the plain marker that conftest.py adds: the first one counts.
_MACHINE = pytest.mark.isolated(machine_root=True)


def while_still(look: Callable[[Sequence[Mount]], T]) -> T:
    """Return what *look* makes of the caller's mount table, which nobody changes meanwhile.

    What *look* raises counts by the same condition. A mount that has come is its doing.
    """
    for _ in range(_TRIES):
        before = mount_table(tolerant=True)
        found: T | Exception
        try:
            found = look(before)
        except (OSError, AssertionError) as error:
            found = error
        after = mount_table(tolerant=True)
        known = {each.mnt_id for each in before}
        assert [each for each in after if each.mnt_id not in known] == [], "mounted by the call"
        if after == before:
            if isinstance(found, Exception):
                raise found
            return found
    pytest.skip(f"the machine's mounts have changed during each of {_TRIES} copies")


def _free() -> bool:
    """Return whether all that is mounted on the caller's root can be unmounted, by doing so in a
    namespace of its own."""
    enter_new_mount_ns()
    root, size = mnt_id_of("/"), 0
    while True:
        table = mount_table(tolerant=True)
        points = [each.mnt_point for each in table if each.mnt_parent_id == root]
        if not points or len(table) == size:
            return not points
        size = len(table)
        # The youngest first: it may be in the way of others, or on top of one.
        for point in reversed(points):
            if point not in (None, "/"):
                with suppress(OSError):
                    umount2(point, MNT_DETACH)


def locked_mounts() -> set[int]:
    """Return the ids of the mounts on the caller's root, all of them, where one is locked there:
    no other lock decides about a copy of "/". The caller must be the owner."""
    root = mnt_id_of("/")
    if in_child(_free):
        return set()
    return {each.mnt_id for each in mount_table(tolerant=True) if each.mnt_parent_id == root}


def _visible_root() -> int:
    """Return the id of the caller's root; skip where no mount begins there."""
    root = mnt_id_of("/")
    if statmount(root).mnt_point is None:
        pytest.skip("the caller's root is no mount point (chroot)")
    return root


@_MACHINE
@pytest.mark.rule("C1", "C2", "C5", "K5", "K6", "G1", "G2")
@fixes.KEEP_COVERED
@pytest.mark.parametrize("kind", [MS_PRIVATE, MS_SHARED], ids=["private", "shared"])
@pytest.mark.parametrize("recursive", [False, True], ids=["single", "recursive"])
def test_copy_of_the_machines_root(caller: Caller, recursive: bool, kind: int) -> None:
    """A copy of "/" holds what the machine has mounted there, each mount as the model predicts; or
    it is refused, where that would uncover something."""
    root, locked = _visible_root(), locked_mounts()
    mount(None, "/", None, MS_REC | kind)
    caller.act()

    def both(table: Sequence[Mount]) -> tuple[list[str], list[str]]:
        """Return the copy and the prediction; of a refusal the errno."""
        who = {"recursive": recursive, "foreign": caller.foreign}
        refusal = predict_refusal(list(table), root, "/", **who, locked=locked)
        expected = [refusal] if refusal else predict(list(table), root, "/", **who).lines()
        try:
            fd = copy("/", recursive=recursive)
        except OSError as error:
            return [errno_name(error)], expected
        number, lines = ns_id(fd), namespace_tree(fd).lines()
        os.close(fd)
        assert gone(number), "the copy is there after its last descriptor was closed"
        return lines, expected

    copied, expected = while_still(both)
    assert copied == expected


@_MACHINE
@pytest.mark.rule("N1", "C2")
def test_machines_root_from_inside(caller: Caller) -> None:
    """Who enters a recursive copy of "/" stands on its top and sees the same mounts in it."""
    root = _visible_root()
    caller.act()

    def both(table: Sequence[Mount]) -> tuple[list[str], list[str]]:
        """Return the view from inside and the prediction."""
        fd = copy("/", recursive=True)

        def view() -> list[str]:
            enter(fd)
            return namespace_tree().lines()

        try:
            expected = predict(list(table), root, "/", recursive=True, foreign=caller.foreign)
            return in_child(view), expected.visible().lines()
        finally:
            os.close(fd)

    seen, expected = while_still(both)
    assert seen == expected
