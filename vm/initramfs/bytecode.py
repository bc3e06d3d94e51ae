# SPDX-License-Identifier: GPL-2.0-only
"""Byte code for the guest, made on the host: compiling under emulation takes longer than a case.

Modules get unchecked-hash pycs (PEP 552), valid whatever time stamps a kernel gives to unpacked
files. What pytest would rewrite for its assertions gets pytest's own kind of pyc beside that,
made by pytest's own rewriter: run this module as a program in an interpreter that has pytest.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import marshal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Time stamp of the project's files in the guest: pytest before 9 goes by it.
MTIME = 1_000_000_000


def code_bytes(source: Path, name: str) -> bytes:
    """Return the marshalled code of *source* as *name* in the guest: the host's byte code when
    current."""
    cached = Path(importlib.util.cache_from_source(str(source)))
    if str(source) == name:
        try:
            raw, now = cached.read_bytes(), source.stat()
        except OSError:
            raw = b""
        stamp = int(now.st_mtime).to_bytes(4, "little") if raw else b""
        if (
            raw[:8] == importlib.util.MAGIC_NUMBER + bytes(4)
            and raw[8:12] == stamp
            and raw[12:16] == (now.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        ):
            return raw[16:]
    return marshal.dumps(compile(source.read_bytes(), name, "exec", dont_inherit=True))


def pyc(source: Path, name: str) -> bytes:
    """Return an unchecked-hash pyc of *source*: valid whatever its source's time stamp says."""
    header = importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little")
    return header + importlib.util.source_hash(source.read_bytes()) + code_bytes(source, name)


def pyc_name(name: str) -> str:
    """Return where the interpreter looks for the pyc of the module file *name*."""
    folder, _, base = name.rpartition("/")
    return f"{folder}/__pycache__/{Path(importlib.util.cache_from_source(base)).name}"


def rewritten(sources: dict[str, Path], python: Path, path: list[str]) -> dict[str, bytes]:
    """pytest's pycs for *sources* (guest name -> file), by their names in the guest.

    Empty when pytest's rewriter is another than this module knows: the guest then does the work.
    """
    names = {name: str(source) for name, source in sources.items()}
    done = subprocess.run(
        [python, "-I", __file__, *path],
        input=marshal.dumps(names),
        capture_output=True,
        check=False,
    )
    found: dict[str, bytes] = marshal.loads(done.stdout) if done.returncode == 0 else {}
    return found


def _rewrite(source: bytes, name: str, rewrite: Any) -> bytes:
    tree = ast.parse(source, filename=name)
    rewrite.rewrite_asserts(tree, source, name, None)
    code = compile(tree, name, "exec", dont_inherit=True)
    stream = io.BytesIO()
    try:
        rewrite._write_pyc_fp(stream, importlib.util.source_hash(source), code)
    except AttributeError:  # pytest before 9.2 signs with the time stamp and size
        stream = io.BytesIO()
        stat = SimpleNamespace(st_mtime=MTIME, st_size=len(source))
        rewrite._write_pyc_fp(stream, stat, code)
    return stream.getvalue()


def main() -> None:
    """Read a marshalled {guest name: file} from standard input, write {pyc name: pyc}."""
    sys.path[:0] = sys.argv[1:]
    from _pytest.assertion import rewrite

    found = {}
    for name, source in marshal.loads(sys.stdin.buffer.read()).items():
        folder, _, base = name.rpartition("/")
        place = f"{folder}/__pycache__/{base.removesuffix('.py')}{rewrite.PYC_TAIL}"
        found[place] = _rewrite(Path(source).read_bytes(), name, rewrite)
    sys.stdout.buffer.write(marshal.dumps(found))


if __name__ == "__main__":
    main()
