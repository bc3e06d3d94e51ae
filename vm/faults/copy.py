# SPDX-License-Identifier: GPL-2.0-only
"""A copy of a kernel's source, in which faults are planted: the source itself is never edited.

The copy shares every file with the source but those that are edited, which are files of its own.
Nothing is built in it, but in a folder beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from vm import process
from vm.arch import ARCHITECTURES
from vm.errors import Problem
from vm.faults.weave import Woven

#: What the command line sets: a header, and an object that holds the number.
HEADER, OBJECT = "include/linux/planted.h", "fs/planted"
_HEADER = """/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _LINUX_PLANTED_H
#define _LINUX_PLANTED_H
#include <linux/compiler.h>

extern int planted_fault;
#define planted(number) unlikely(READ_ONCE(planted_fault) == (number))
#endif
"""
_OBJECT = """// SPDX-License-Identifier: GPL-2.0
#include <linux/errno.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/planted.h>

/* which fault this kernel makes, 0 for none */
int planted_fault;

static int __init set_planted(char *text)
{
	if (kstrtoint(text, 0, &planted_fault))
		return -EINVAL;
	pr_warn("planted fault %d\\n", planted_fault);
	return 0;
}
early_param("planted", set_planted);
"""
_INCLUDE = "#include <linux/planted.h>"
#: Of a source that was built in: what a copy has no use for.
_NOT_COPIED = re.compile(r"\.git|\.svn|.*\.(?:o|a|ko|cmd|mod|mod\.c|order|symvers)")
_CONFIGURED = (".config", "include/config", "include/generated")
#: In the copy: which files are its own.
_OWN = ".planted.json"


def said(number: int) -> str:
    """Return what the kernel says when it has taken the number of a fault."""
    return f"planted fault {number}"


class Copy:
    """A copy of a source."""

    def __init__(self, source: Path, folder: Path) -> None:
        self._source, self.folder = source, folder

    def _own(self) -> set[str]:
        """The files that are not the source's."""
        try:
            return set(json.loads((self.folder / _OWN).read_text()))
        except (OSError, ValueError):
            return set()

    def refresh(self) -> None:
        """Make it as the source is now, but for the files of its own.

        :raises Problem: it cannot be.
        """
        own = self._own()
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        draft = self.folder.with_name(f".new-{self.folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        shutil.copytree(self._source, draft, symlinks=True, ignore=_ignored, copy_function=_share)
        if any((draft / name).exists() for name in _CONFIGURED):
            self._clean(draft)
        for file in [*own, _OWN]:
            with suppress(OSError):
                (self.folder / file).replace(draft / file)
        shutil.rmtree(self.folder, ignore_errors=True)
        draft.rename(self.folder)

    def _clean(self, folder: Path) -> None:
        """Remove what was built in *folder*: make takes a source for another folder only so."""
        for arch in ARCHITECTURES:
            done = process.output(["make", "-C", folder, f"ARCH={arch}", "mrproper"])
            if done.returncode:
                words = (done.stderr.splitlines() or ["make mrproper failed"])[-1]
                raise Problem(f"{self._source}: a copy of it cannot be cleaned: {words}")

    def write(self, file: str, text: str) -> None:
        """Give *file* these contents; one that has them keeps its time, so that make does not
        build it again."""
        path = self.folder / file
        with suppress(OSError):
            if path.read_text(encoding="utf-8") == text:
                return
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)  # of the source's own file, which this was a link to, nothing changes

    def plant(self, woven: Mapping[str, Woven]) -> None:
        """Write the files with switches, and what the switches are set by; all others become the
        source's."""
        files = {file: with_header(found.text) for file, found in woven.items()}
        makefile = (self._source / "fs/Makefile").read_text(encoding="utf-8")
        files |= {
            HEADER: _HEADER,
            f"{OBJECT}.c": _OBJECT,
            "fs/Makefile": f"{makefile}\nobj-y += planted.o\n",
        }
        before = self._own()
        self.write(_OWN, json.dumps(sorted(files)))
        for file in before - files.keys():
            self.write(file, (self._source / file).read_text(encoding="utf-8"))
        for file, text in files.items():
            self.write(file, text)


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if _NOT_COPIED.fullmatch(name)}


def _share(source: str, target: str) -> None:
    """Have *target* be *source*, or a copy where it cannot."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def with_header(text: str) -> str:
    """Return *text* with the header of the switches; its lines keep their numbers."""
    match = re.search(r"^#include\b", text, re.M)
    if match is None:
        return text
    at = match.start()
    line = text.count("\n", 0, at) + 1
    return f"{text[:at]}{_INCLUDE}\n#line {line}\n{text[at:]}"
