# SPDX-License-Identifier: GPL-2.0-only
"""The files that make up one kernel: named one by one with + between them, or by their folder.

Each is a path or an http(s) address, which may end in #sha256= and the file's checksum.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vm.distro import download
from vm.distro.package_file import ENDS, is_package
from vm.errors import Exit, Problem
from vm.terminal import complain

_ADDRESS = re.compile(r"https?://", re.I)
_SUM = "#sha256="
#: The end of a package's name; a + behind it is none of the name.
_PACKAGE = re.compile(rf"{ENDS}(?:{_SUM}[0-9a-fA-F]*)?$")
#: Packages without what a guest needs, which are built along with those that have it.
_OTHERS = re.compile(r"-dbg_|-debuginfo-|-debugsource-|-devel-|-headers-|-libc-dev_|\.src\.rpm$")


@dataclass
class Part:
    """A file, on this machine or elsewhere."""

    #: As the user named it, without the checksum.
    text: str
    #: Its checksum, SHA-256 in hexadecimal digits; empty while it is not known.
    sha256: str = ""
    #: Whether there may be nothing in it: it was named by its folder.
    optional: bool = False

    @property
    def name(self) -> str:
        """The name of the file."""
        return download.name_in(self.text) if is_address(self.text) else Path(self.text).name

    @property
    def can_wait(self) -> bool:
        """Whether the file need not be looked at to know which it is."""
        return bool(self.sha256) and is_address(self.text)

    def obtain(self, folder: Path) -> Path:
        """Return the file, fetched into *folder* if need be, once its checksum is seen to fit.

        :raises Problem: it is not there, or is another one.
        """
        if is_address(self.text):
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / self.name
            download.fetch(self.text, path)
        else:
            path = Path(os.path.expanduser(self.text))
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise Problem(
                f"{self.text}: {error.strerror}\nhint: give a file that is there"
            ) from None
        if self.sha256 and found != self.sha256:
            raise Problem(
                f"{self.text}: its SHA-256 is {found}, and {self.sha256} was asked for\n"
                "hint: it is not the file that was meant, or it was changed on its way"
            )
        if not self.sha256 and is_address(self.text):
            complain(
                f"nothing vouches for {self.text}: it is taken as it came\n"
                f"hint: with {_SUM}{found} behind the address it is checked, and fetched only once"
            )
        self.sha256 = found
        return path


def is_address(text: str) -> bool:
    """Return whether *text* is an address rather than a path."""
    return _ADDRESS.match(text) is not None


def packages_in(folder: Path) -> list[Path]:
    """Return the packages in *folder* that may have a kernel or its modules."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and is_package(path))
    return [path for path in files if not _OTHERS.search(path.name)]


def parts(text: str) -> list[Part]:
    """Return the files that *text* names.

    :raises Problem: it does so in a wrong way.
    """
    path = Path(os.path.expanduser(text))
    if path.is_dir():
        return [Part(str(file), optional=True) for file in packages_in(path)]
    if path.exists():
        return [Part(text)]
    return [_part(name) for name in _names(text)]


def _names(text: str) -> Iterator[str]:
    """Yield the names that are joined in *text*. One may have a + of its own: a joint is behind a
    package or a file that is there, or before an address."""
    begin = 0
    for joint in re.finditer(r"\+", text):
        name = text[begin : joint.start()]
        is_whole = _PACKAGE.search(name) or os.path.isfile(os.path.expanduser(name))
        if is_whole or _ADDRESS.match(text, joint.end()):
            yield name
            begin = joint.end()
    yield text[begin:]


def _part(text: str) -> Part:
    name, mark, checksum = text.partition(_SUM)
    if mark and not re.fullmatch("[0-9a-fA-F]{64}", checksum):
        raise Problem(
            f"{text}: not a SHA-256\nhint: {_SUM} and 64 hexadecimal digits, as sha256sum prints",
            Exit.USAGE,
        )
    return Part(name, checksum.lower())
