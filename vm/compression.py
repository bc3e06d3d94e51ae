# SPDX-License-Identifier: GPL-2.0-only
"""Decompresses kernels, modules and packages: with Python where it can, else with the program."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from vm.errors import Problem

#: What reading damaged data raises.
DAMAGED = (EOFError, ValueError, lzma.LZMAError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Format:
    """A way to compress."""

    name: str
    #: What such files begin with.
    magic: bytes
    #: Return a file with what is in the compressed one.
    opened: Callable[[io.BytesIO], io.BufferedIOBase]


def _by_program(program: str) -> Callable[[io.BytesIO], io.BufferedIOBase]:
    """Return what decompresses with *program*, into a file: that may be large."""

    def opened(data: io.BytesIO) -> io.BufferedIOBase:
        if shutil.which(program) is None:
            raise Problem(f"needs the program {program}\nhint: install {program}")
        with tempfile.NamedTemporaryFile(prefix="vm-") as file:
            done = subprocess.run(
                [program, "-dc"],
                input=data.getbuffer(),
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
            if done.returncode:
                words = done.stderr.decode(errors="replace").strip().splitlines()
                raise Problem(f"{program}: {words[-1] if words else 'no message'}")
            return open(file.name, "rb")

    return opened


def _zstd(data: io.BytesIO) -> io.BufferedIOBase:
    try:
        zstd = importlib.import_module("compression.zstd")  # since Python 3.14
    except ImportError:
        return _by_program("zstd")(data)
    try:
        return io.BytesIO(zstd.decompress(data.getbuffer()))
    except zstd.ZstdError as error:
        raise Problem(f"zstd: {error}") from None


FORMATS = (
    Format("gzip", b"\x1f\x8b", lambda data: gzip.GzipFile(fileobj=data)),
    Format("xz", b"\xfd7zXZ\0", lzma.LZMAFile),
    Format("lzma", b"\x5d\0\0", lzma.LZMAFile),
    Format("bzip2", b"BZh", bz2.BZ2File),
    Format("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    # As the kernel's build makes it, and as the program does by itself.
    Format("lz4", b"\x02\x21\x4c\x18", _by_program("lz4")),
    Format("lz4", b"\x04\x22\x4d\x18", _by_program("lz4")),
    Format("lzop", b"\x89LZO", _by_program("lzop")),
)


def format_of(data: bytes) -> Format | None:
    """Return how what begins with *data* is compressed, None when it is not."""
    return next((one for one in FORMATS if data.startswith(one.magic)), None)


def opened(data: bytes) -> io.BufferedIOBase:
    """Return a file with what is in *data*, decompressed where it is compressed.

    Reading it may raise one of DAMAGED.

    :raises Problem: a program for that is missing, or cannot do it.
    """
    found = format_of(data)
    file = io.BytesIO(data)
    return file if found is None else found.opened(file)


def decompressed(data: bytes) -> bytes:
    """Return *data* decompressed; as it is where it is not compressed.

    :raises Problem: it is damaged, or a program for that is missing.
    """
    found = format_of(data)
    if found is None:
        return data
    try:
        with found.opened(io.BytesIO(data)) as file:
            return file.read()
    except DAMAGED as error:
        raise Problem(f"{found.name}: {error}") from None
