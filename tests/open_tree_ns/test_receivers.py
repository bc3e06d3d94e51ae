# SPDX-License-Identifier: GPL-2.0-only
"""Who receives what is mounted at the source: copies of a part of it, detached trees, slaves that
are peers of one another, and namespaces that are full."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import clone, copy, copy_by, enter, mount_points
from tests.utils.expect import outcome
from tests.utils.mounts.copies import Copy, made_in_child
from tests.utils.mounts.limits import mount_max
from tests.utils.mounts.trees import bind, propagation, tmpfs
from tests.utils.uapi.constants import MS_PRIVATE, MS_SHARED, MS_SLAVE
from tests.utils.uapi.nsfs import current_mnt_ns, mnt_get_info
from tests.utils.uapi.statmount import Mount, listmount, mount_table
from tests.utils.uapi.syscalls import attach, mount


def shared_tree(scratch: Path) -> Path:
    """Make a shared mount with places to mount on, "part/place" among them."""
    return propagation(tmpfs(scratch / "top", "part/place/x", "beside/x"), MS_SHARED)


@pytest.mark.rule("G13")
def test_copy_of_a_part_receives_what_is_in_it(caller: Caller, scratch: Path) -> None:
    """A copy of a directory receives what is mounted at the source below that directory, and what
    is mounted on it, which comes to lie on the copy's root; nothing of what is mounted beside."""
    top = shared_tree(scratch)
    copied = made_in_child(caller.act, partial(copy, top / "part"))

    points = {}
    for place in ("beside", "part/place", "part"):
        tmpfs(top / place)
        points[place] = mount_points(copied.ns_fd)[1:]
        assert mnt_get_info(copied.ns_fd).nr_mounts == 1 + len(points[place])

    assert points == {"beside": [], "part/place": ["/place"], "part": ["/place", "/"]}


@pytest.mark.rule("G13")
def test_detached_tree_receives_nothing(scratch: Path) -> None:
    """A detached clone is in the group of its source, and receives nothing as long as it is
    detached; once it is attached inside it does, and sends."""
    top = shared_tree(scratch)
    holder = tmpfs(scratch / "holder", "place/x")
    fd, tree = copy(holder), clone(top)

    tmpfs(top / "beside")
    detached = os.listdir(f"/proc/self/fd/{tree}/beside")
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    enter(fd)
    attach(tree, "/place")
    tmpfs(Path("/place/part/place"), "inside")
    inside = mount_points()
    enter(here)

    assert (detached, inside) == (["x"], ["/", "/place", "/place/part/place"])
    assert os.listdir(top / "part/place") == ["inside"]


@pytest.mark.rule("G13")
@pytest.mark.needs("user namespace")
def test_arrivals_among_slaves_that_are_peers(scratch: Path) -> None:
    """Two copies that are slaves of the source and peers of one another receive mounts that are so,
    too: what is then mounted on the one is on the other, and not at the source."""
    top = shared_tree(scratch)
    first = copy_by(Caller.FOREIGN, top)
    first.inside(lambda: mount(None, "/", None, MS_SHARED))
    second = Copy(first.opened_inside(partial(copy, "/", recursive=True)), first.userns_fd)

    tmpfs(top / "part", "place/x")
    arrived = [mount_table(ns_fd=each.ns_fd)[-1] for each in (first, second)]
    (source,) = [m for m in mount_table() if m.mnt_point == str(top / "part")]
    first.inside(lambda: tmpfs(Path("/part/place")))

    groups = {m.mnt_peer_group for m in arrived}
    assert [m.mnt_point for m in arrived] == ["/part", "/part"]
    assert len(groups) == 1
    assert groups != {source.mnt_peer_group}
    assert {m.mnt_master for m in arrived} == {source.mnt_peer_group}
    points = [mount_points(each.ns_fd)[-1] for each in (first, second)]
    assert points == ["/part/place", "/part/place"]
    assert str(top / "part/place") not in mount_points()


def relations(mounts: dict[str, Mount]) -> dict[str, str]:
    """Say of each of *mounts*, by name, whose peer it is, and whose slave."""
    first = {0: "none"}
    for name, each in mounts.items():
        first.setdefault(each.mnt_peer_group, name)
    found = {}
    for name, each in mounts.items():
        peer, master = first[each.mnt_peer_group], first.get(each.mnt_master, "others")
        found[name] = f"peer of {peer}, slave of {master}"
    return found


@pytest.mark.rule("G13")
def test_arrivals_among_groups_below_groups(caller: Caller, scratch: Path) -> None:
    """Mounts that arrive are to one another what those are that they arrive on: peers, and slaves
    of the same groups, however deep."""
    places = ("part/place/x", *(f"{name}/x" for name in "abcdefg"))
    top = propagation(tmpfs(scratch / "top", *places), MS_SHARED)
    copied = copy_by(caller, top)

    def make_family() -> None:
        propagation(Path("/"), MS_SHARED)
        for name, of, types in (
            ("a", "part", (MS_SLAVE, MS_SHARED)),
            ("b", "part", (MS_SLAVE, MS_SHARED)),
            ("c", "a", (MS_SLAVE, MS_SHARED)),
            ("d", "b", (MS_SLAVE,)),
            ("e", "c", ()),
            ("f", "e", (MS_SLAVE, MS_SHARED)),
            ("g", "part", (MS_SLAVE,)),
        ):
            made = bind(Path("/", of), Path("/", name))
            for kind in types:
                propagation(made, kind)

    copied.inside(make_family)
    mount("tmpfs", top / "part/place", "tmpfs")
    here = {mount.mnt_point: mount for mount in mount_table()}
    there = {mount.mnt_point: mount for mount in mount_table(ns_fd=copied.ns_fd)}
    receivers = {"source": here[str(top)], "/": there["/"]}
    arrived = {"source": here[str(top / "part/place")], "/": there["/part/place"]}
    for name in "abcdefg":
        receivers[name], arrived[name] = there[f"/{name}"], there[f"/{name}/place"]

    assert relations(arrived) == relations(receivers)


@pytest.mark.rule("C12")
# fs.mount-max is the machine's, and is lowered.
@pytest.mark.needs("root", "expendable kernel", "sysctl")
@pytest.mark.room(mounts=1200)
def test_full_receiver_refuses_for_all(scratch: Path) -> None:
    """What arrives counts in the namespace it arrives in: when one copy is full, the mount at the
    source is ENOSPC, and so is one in that copy; they arrive in no other, and leave nothing
    counted; with room it arrives."""
    top = shared_tree(scratch)
    here, first, full, last = current_mnt_ns(), copy(top), copy(top), copy(top)
    namespaces = (here, first, full, last)
    with mount_max() as set_mount_max:
        enter(full)
        many = propagation(tmpfs(Path("/beside")), MS_PRIVATE)
        for number in range(10):  # above what cases that run at the same time have mounted
            bind(many, many / str(number), recursive=True)
        enter(here)
        limit = len(listmount(ns_fd=full)) + 1  # the base counts, too
        before = [mount_table(ns_fd=fd) for fd in namespaces]
        counted = [mnt_get_info(fd).nr_mounts for fd in namespaces]

        set_mount_max(limit)
        refused = {str(outcome(mount, "tmpfs", top / "part", "tmpfs")) for _ in range(20)}
        enter(full)
        refused |= {str(outcome(mount, "tmpfs", "/part", "tmpfs")) for _ in range(20)}
        enter(here)
        after = [mount_table(ns_fd=fd) for fd in namespaces]
        set_mount_max(limit + 1)
        ends = [str(outcome(mount, "tmpfs", top / "part", "tmpfs")) for _ in range(2)]

    assert (refused, after) == ({"ENOSPC"}, before)
    assert ends == ["success", "ENOSPC"]
    grown = [len(mount_table(ns_fd=fd)) for fd in namespaces]
    assert grown == [len(table) + 1 for table in before]
    counts = [mnt_get_info(fd).nr_mounts for fd in namespaces]
    assert counts == [count + 1 for count in counted], "a refused mount stays counted"
