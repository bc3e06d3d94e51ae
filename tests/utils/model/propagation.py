# SPDX-License-Identifier: GPL-2.0-only
"""Peer groups and slaves: which mounts an event reaches, stated independently of any kernel.

Source: Documentation/filesystems/sharedsubtree.rst.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count

#: A namespace's number and the mount's name there.
Mount = tuple[int, str]
#: Of a mount: the group it is a peer in, and the group it receives from; 0 for none.
Groups = tuple[int, int]


def renumbered(groups: Mapping[Mount, Groups]) -> dict[Mount, Groups]:
    """Return the same ties, groups numbered in the order in which they come up: two ways to number
    them, a kernel's and a model's, can be compared then."""
    numbers = {0: 0}
    return {
        mount: (numbers.setdefault(group, len(numbers)), numbers.setdefault(master, len(numbers)))
        for mount, (group, master) in sorted(groups.items())
    }


@dataclass(slots=True)
class _Tie:
    """What ties a mount to others: the group it is a peer in, and the group it receives from."""

    group: int | None = None
    master: int | None = None


class Propagation:
    """The ties among mounts."""

    def __init__(self) -> None:
        self._ties: dict[Mount, _Tie] = {}
        self._groups = count(1)

    def add(self, mount: Mount) -> None:
        """Add a new mount, private."""
        self._ties[mount] = _Tie()

    def copy(self, mount: Mount, name: Mount, *, foreign: bool) -> None:
        """Add *name*, a copy of *mount*, made by an owner or a foreign caller."""
        tie = self._ties[mount]
        slave = foreign and tie.group is not None
        self._ties[name] = _Tie(None, tie.group) if slave else _Tie(tie.group, tie.master)

    def remove(self, mount: Mount) -> None:
        """Remove *mount*."""
        self.make_private(mount)
        del self._ties[mount]

    def make_shared(self, mount: Mount) -> None:
        """MS_SHARED: a peer group of its own, unless it is in one."""
        tie = self._ties[mount]
        if tie.group is None:
            tie.group = next(self._groups)

    def make_slave(self, mount: Mount) -> None:
        """MS_SLAVE: receives from the peers it leaves behind; without any, from where they did."""
        tie, group = self._ties[mount], self._ties[mount].group
        self._leave(mount)
        if group is not None and any(self._in(group)):
            tie.master = group

    def make_private(self, mount: Mount) -> None:
        """MS_PRIVATE: no ties."""
        self._leave(mount)
        self._ties[mount].master = None

    def groups(self) -> dict[Mount, Groups]:
        """Return the ties of each mount."""
        return {name: (tie.group or 0, tie.master or 0) for name, tie in self._ties.items()}

    def _in(self, group: int) -> Iterator[Mount]:
        return (name for name, tie in self._ties.items() if tie.group == group)

    def _leave(self, mount: Mount) -> None:
        tie = self._ties[mount]
        group, tie.group = tie.group, None
        if group is not None and not any(self._in(group)):
            # The last of the group: who received from it receives from its master now.
            for other in self._ties.values():
                if other.master == group:
                    other.master = tie.master

    def reached(self, mount: Mount) -> set[Mount]:
        """Return the mounts that a mount or umount on *mount* reaches, itself among them."""
        found = {mount}
        todo = [self._ties[mount].group]
        while todo:
            group = todo.pop()
            if group is None:
                continue
            for name, tie in self._ties.items():
                if name not in found and group in (tie.group, tie.master):
                    found.add(name)
                    todo.append(tie.group)
        return found
