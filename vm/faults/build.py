# SPDX-License-Identifier: GPL-2.0-only
"""From a source and the catalogue to kernels: one with a switch for each fault, and one each for
the faults that no switch can stand for."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vm import paths
from vm.arch import UM
from vm.errors import Exit, Problem
from vm.faults import planted as plants
from vm.faults.catalogue import FOLDER, Fault
from vm.faults.copy import Copy
from vm.faults.planted import Planted
from vm.kernel import build as make
from vm.kernel import tree
from vm.kernel.image import Kernel
from vm.kernel.tree import Tree
from vm.terminal import say

#: What the kernel is built with, beside what the cases and a guest need.
OPTIONS = FOLDER / "kernel.config"


class Workshop:
    """Where the kernels of one source are made."""

    def __init__(self, source: Path, fixed: bool, log: Path, fragments: Sequence[Path]) -> None:
        """*fixed* is whether the source never changes, as one of the cache does."""
        self.source = source
        key = hashlib.sha256(str(source).encode()).hexdigest()[:8]
        self.name = f"faults-{source.name}-{key}"
        self._copy = Copy(source, tree.copies() / self.name)
        self._fixed = fixed
        objects = tree.builds() / self.name / UM.name
        objects.mkdir(parents=True, exist_ok=True)
        self._tree = Tree(objects, self._copy.folder, UM.name)
        self._log, self._fragments = log, (OPTIONS, *fragments)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold what is built in, once no other start does, the copy as the source is now.

        :raises Problem: there can be no copy.
        """
        with paths.changing(self.objects.parent):
            if not (self._fixed and self._copy.folder.exists()):
                say(f"copying {self.source} ...")
                self._copy.refresh()
            yield

    @property
    def objects(self) -> Path:
        """The folder that is built in."""
        return self._tree.objects

    def kernel(self, planted: Planted) -> Kernel:
        """Return the kernel with a switch for each fault. A mechanical one that does not compile is
        dropped from *planted*.

        :raises Problem: it cannot be built.
        """
        while True:
            woven = planted.woven()
            self._copy.plant(woven)
            try:
                return self._built()
            except Problem as problem:
                if problem.status is not Exit.NOT_BOOTED:
                    raise
                log = self._log.read_text(errors="replace")
                found = plants.blamed(planted, woven, log)
                if not found:
                    raise
            for number, why in found.items():
                say(f"left out: {planted.numbers[number].id}: does not compile: {why}")
                planted.drop(number, f"does not compile: {why}")

    def _built(self) -> Kernel:
        make.build(self._tree, False, self._log, self._fragments)
        return tree.kernel(self._tree)

    def alone(self, planted: Planted, fault: Fault, folder: Path) -> Kernel:
        """Return a kernel that has *fault* always, in *folder*, which is made for it.

        :raises Problem: it cannot be built.
        """
        woven = planted.woven()
        files = {edit.file for edit in fault.edits}
        without = Planted(planted.source)
        for number, places in planted.places.items():
            if not any(place.edit.file in files for place in places):
                without.numbers[number] = planted.numbers[number]
                without.places[number] = places
        self._copy.plant(without.woven())
        try:
            for file in files:
                text = planted.source.text(file)
                located = [planted.source.locate(edit) for edit in fault.edits if edit.file == file]
                for place in sorted(located, key=lambda one: one.span, reverse=True):
                    span = place.span
                    text = text[: span.start] + place.edit.replace + text[span.end :]
                self._copy.write(file, text)
            kernel = self._built()
            folder.mkdir(parents=True, exist_ok=True)
            image = folder / kernel.path.name
            shutil.copy2(kernel.path, image)
            return replace(kernel, path=image)
        finally:
            self._copy.plant(woven)
            for file in files - woven.keys():
                self._copy.write(file, planted.source.text(file))
