# SPDX-License-Identifier: GPL-2.0-only
"""What must be where, in each of several namespaces, while mounts come and go in all of them.

The model of a history (see tests.utils.search.histories). It knows propagation, locks and owners,
and nothing of a kernel: it says which events can happen next, and what comes of each.
"""

from __future__ import annotations

from itertools import product

from tests.utils.model.propagation import Groups, Mount, Propagation

#: The mounts of the tree by the names they have in events, and where they are.
MOUNTS = {"top": "/", "sub": "/sub"}
#: Where mounts come and go: on which mount.
PLACES = {"a": "top", "b": "top", "sub/a": "sub", "sub/b": "sub"}
TYPES = ("private", "shared", "slave")
#: The attributes that a lock keeps from being cleared.
ATTRIBUTES = ("ro", "nosuid", "nodev", "noexec")
#: Who copies a namespace: a task of the user namespace that owns it, one of a new user namespace
#: below that, or one of the user namespace in which all this happens.
COPIES = ("copy", "copy-foreign", "copy-above")
#: The first word of every event.
VERBS = (*COPIES, "close", "enter", "mount", "umount", *TYPES, "restrict", "relax")
#: Namespaces at a time.
MOST = 5


class World:
    """The namespaces by number; 0 is the one in which it begins, and is never closed."""

    def __init__(self, types: tuple[str, str]) -> None:
        self._ties = Propagation()
        #: Per namespace, the places with a mount of their own, and whether it is locked there.
        self._extra: dict[int, dict[str, bool]] = {0: {}}
        #: Per namespace and mount of the tree, its attributes, and whether each is locked.
        self._attributes: dict[int, dict[str, dict[str, bool]]] = {0: {name: {} for name in MOUNTS}}
        #: The user namespace that owns each, by the number of the first it came to own.
        self.owner = {0: 0}
        self._last = 0
        for name, kind in zip(MOUNTS, types, strict=True):
            self._ties.add((0, name))
            self._change_type(0, name, kind)

    def holds(self, number: int) -> list[str]:
        """Return the mounts of a namespace: where each is, and its attributes."""
        tree = [
            " ".join((point, *sorted(self._attributes[number][name])))
            for name, point in MOUNTS.items()
        ]
        return sorted([*tree, *(f"/{place}" for place in self._extra[number])])

    def groups(self) -> dict[Mount, Groups]:
        """Return the peer groups and masters of the mounts of the tree, in all namespaces."""
        return self._ties.groups()

    def enabled(self, verb: str) -> list[str]:
        """Return the events of that kind which mean something now."""
        there = list(self._extra)
        found: list[tuple[object, ...]]
        if verb in COPIES:
            room = len(there) < MOST
            found = [(n,) for n in there if room and (self.owner[n] or verb != "copy-above")]
        elif verb in ("close", "enter"):
            found = [(number,) for number in there if number]
        elif verb == "mount":
            # What happens where something is mounted already is a chapter of its own.
            found = [
                (number, place)
                for number, place in product(there, PLACES)
                if not any(place in self._extra[other] for other in self._reached(number, place))
            ]
        elif verb == "umount":
            found = [(number, place) for number in there for place in self._extra[number]]
        elif verb in TYPES:
            found = [each for each, tie in self.groups().items() if _would_change(verb, *tie)]
        else:
            found = [
                (number, name, attribute)
                for number, name, attribute in product(there, MOUNTS, ATTRIBUTES)
                if (attribute in self._attributes[number][name]) == (verb == "relax")
            ]
        return [" ".join(map(str, (verb, *words))) for words in found]

    def apply(self, event: str) -> str:
        """Apply an enabled event; return the errno with which it must be refused, or nothing."""
        verb, word, *rest = event.split()
        number = int(word)
        if verb in COPIES:
            self._copy(number, verb)
        elif verb == "close":
            self._close(number)
        elif verb == "mount":
            for other in self._reached(number, *rest):
                self._extra[other][rest[0]] = False
        elif verb == "umount":
            return self._umount(number, *rest)
        elif verb in TYPES:
            self._change_type(number, rest[0], verb)
        elif verb == "restrict":
            self._attributes[number][rest[0]][rest[1]] = False
        elif verb == "relax":
            return self._relax(number, *rest)
        return ""

    def _reached(self, number: int, place: str) -> list[int]:
        """The namespaces that a mount or umount on *place* reaches."""
        return [other for other, _ in self._ties.reached((number, PLACES[place]))]

    def _umount(self, number: int, place: str) -> str:
        if self._extra[number][place]:
            return "EINVAL"
        for other in self._reached(number, place):
            # A lock holds against those inside, not against the side the mount came from.
            self._extra[other].pop(place, None)
        return ""

    def _change_type(self, number: int, name: str, kind: str) -> None:
        change = {
            "private": self._ties.make_private,
            "shared": self._ties.make_shared,
            "slave": self._ties.make_slave,
        }[kind]
        change((number, name))

    def _relax(self, number: int, name: str, attribute: str) -> str:
        if self._attributes[number][name][attribute]:
            return "EPERM"
        del self._attributes[number][name][attribute]
        return ""

    def _copy(self, source: int, verb: str) -> None:
        """The next number becomes a copy of *source*."""
        self._last += 1
        number = self._last
        owner = {"copy": self.owner[source], "copy-foreign": number, "copy-above": 0}[verb]
        foreign = owner != self.owner[source]
        self.owner[number] = owner
        for name in MOUNTS:
            self._ties.copy((source, name), (number, name), foreign=foreign)
        # A foreign caller's copy locks all there is; an owner's keeps each lock.
        self._extra[number] = _locked(self._extra[source], foreign)
        self._attributes[number] = {
            name: _locked(attributes, foreign)
            for name, attributes in self._attributes[source].items()
        }

    def _close(self, number: int) -> None:
        for name in MOUNTS:
            self._ties.remove((number, name))
        del self._extra[number], self._attributes[number], self.owner[number]


def _would_change(kind: str, group: int, master: int) -> bool:
    """Whether a change to that type means something to a mount with these ties."""
    return bool({"shared": not group, "slave": group, "private": group or master}[kind])


def _locked(locks: dict[str, bool], foreign: bool) -> dict[str, bool]:
    return {name: lock or foreign for name, lock in locks.items()}
