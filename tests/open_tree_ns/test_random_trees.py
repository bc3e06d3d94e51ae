# SPDX-License-Identifier: GPL-2.0-only
"""Trees nobody thought of: made by chance, the same ones every time, compared with the model.

Each seed makes a tree of directories, files, tmpfs and bind mounts (of directories, sub-trees and
files), of every propagation type, stacked and nested as it comes.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest

from tests.open_tree_ns import fixes
from tests.open_tree_ns.caller import Caller
from tests.open_tree_ns.calls import copy, enter
from tests.utils.constants import (
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from tests.utils.model import namespace_tree, predict_copy
from tests.utils.mounts import mount_table
from tests.utils.trees import bind, propagation, readable, tmpfs

SEEDS = range(5)
STEPS = 12


def plant(top: Path) -> None:
    """Begin with a shared mount, a slave of it, and one that is both."""
    propagation(tmpfs(top / "a", "a.txt", "dir/a.txt"), MS_SHARED)
    propagation(bind(top / "a", top / "b"), MS_SLAVE)
    propagation(bind(top / "a", top / "c"), MS_SLAVE)
    propagation(top / "c", MS_SHARED)


def places(top: Path) -> tuple[list[Path], list[Path]]:
    """Directories and files below *top*, as a path sees them."""
    directories, files = [], []
    for directory, _, names in os.walk(top):
        directories.append(Path(directory))
        files += [Path(directory, name) for name in names]
    return sorted(directories), sorted(files)


def grow(top: Path, chance: random.Random, serial: int) -> None:
    """Put one more mount somewhere below *top*, with files and directories of its own."""
    directories, files = places(top)
    place = chance.choice(directories)
    what = chance.choice(("tmpfs", "tmpfs", "bind", "rbind", "file", "type"))
    if what == "file":
        bind_if_allowed(chance.choice(files), chance.choice(files))
    elif what == "type":
        kind = chance.choice((MS_PRIVATE, MS_SHARED, MS_SHARED, MS_SLAVE, MS_UNBINDABLE))
        mounted = [p for p in directories if p != top and os.path.ismount(p)]
        if mounted:
            propagation(chance.choice(mounted), kind)
    elif what == "tmpfs" or place == top:
        target = place if place != top and chance.random() < 0.3 else place / f"m{serial}"
        tmpfs(target, f"{serial}.txt", f"dir{serial}/{serial}.txt")
    else:
        sources = [d for d in directories if d != top and not place.is_relative_to(d)]
        if sources:
            bind_if_allowed(chance.choice(sources), place, recursive=what == "rbind")


def bind_if_allowed(source: Path, target: Path, *, recursive: bool = False) -> None:
    """Bind-mount, unless the source happens to be unbindable."""
    try:
        bind(source, target, recursive=recursive)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


@pytest.mark.rule("C2", "C6", "C7", "G1", "G2")
@fixes.KEEP_COVERED
@fixes.KEEP_UNBINDABLE
def test_random_trees(caller: Caller, scratch: Path) -> None:
    """Of every tree the copy is the one the model predicts, the source does not change, and a
    foreign caller reads inside exactly what the path showed."""
    expected, files = {}, {}
    for seed in SEEDS:
        top = tmpfs(scratch / str(seed), "top.txt")
        plant(top)
        chance = random.Random(seed)
        for serial in range(STEPS):
            grow(top, chance, serial)
        expected[seed] = predict_copy(top, recursive=True, foreign=caller.foreign).lines()
        files[seed] = readable(top)
    before = mount_table()
    caller.act()

    copies = {seed: copy(scratch / str(seed), recursive=True) for seed in SEEDS}

    assert {seed: namespace_tree(fd).lines() for seed, fd in copies.items()} == expected
    assert mount_table() == before
    if caller.foreign:
        inside = {}
        for seed, fd in copies.items():
            enter(fd)
            inside[seed] = readable("/")
        assert inside == files
