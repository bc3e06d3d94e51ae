# SPDX-License-Identifier: GPL-2.0-only
"""A tree of mounts as lines, which says of another that differs which rule of copying that breaks.

A line has its words two spaces apart: mount point, file system and root, source, attributes,
propagation, and where there are any peer group, master and id maps.
"""

from __future__ import annotations

from tests.utils.deviation import Deviation

_WORDS = ("file system", "source", "attributes", "propagation", "peer group, master or id map")


class Lines(list[str]):
    """The lines that a copy should have."""

    def deviation(self, found: object) -> Deviation:
        """Return the first place where *found*, the lines of a copy, is not as expected."""
        if not isinstance(found, list) or not all(isinstance(line, str) for line in found):
            return Deviation(aspect="the copy", expected="a tree of mounts", came=f"got {found}")
        left = list(found)
        missing = []
        for line in self:
            if line in left:
                left.remove(line)
            else:
                missing.append(line.strip().split("  "))
        extra = {words[0]: words for words in (line.strip().split("  ") for line in left)}
        for place, *words in missing:
            if place in extra:
                return _of_mount(place, words, extra[place][1:])
        if missing:
            place, *words = missing[0]
            rule = "C7" if "UNBINDABLE" in words else "C2"
            return Deviation(
                aspect="the copy", expected=f"a mount at {place!r}", came="there is none", rule=rule
            )
        for place, what, *_ in extra.values():
            rule = "C8" if what.startswith("nsfs:") else "C2" if len(self) > 1 else "C1"
            came = f"there is one at {place!r}"
            return Deviation(aspect="the copy", expected="no other mount", came=came, rule=rule)
        return Deviation(aspect="the copy", expected="the mounts in this order", came="another")


def _of_mount(place: str, expected: list[str], found: list[str]) -> Deviation:
    """Return how the mount at *place* differs."""
    pairs = zip(expected[:4], found[:4], strict=False)
    number = next((n for n, (one, other) in enumerate(pairs) if one != other), 4)
    # What one side has and the other lacks, of the words that are not always there.
    wanted, came = (
        (words[number] if number < 4 else ", ".join(words[4:]) or "none")
        for words in (expected, found)
    )
    ties = "SLAVE" in " ".join(expected) or "master" in " ".join(expected)
    if number == 0:
        device, other = (text.rpartition(":") for text in (wanted, came))
        rule = "C3" if device[0] == other[0] else "C4"
    elif number == 1:
        rule = "C4"
    elif number == 2 or "map" in wanted + came:
        rule = "C5"
    else:
        rule = "G2" if ties else "G1"
    return Deviation(
        aspect=f"{_WORDS[number]} of the copied mount {place!r}",
        expected=wanted,
        came=f"found {came}",
        rule=rule,
    )
