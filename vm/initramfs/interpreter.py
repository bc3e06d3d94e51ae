# SPDX-License-Identifier: GPL-2.0-only
"""What there is to know of an interpreter that a guest may run.

Another one than the running one is asked by running this module in it, as a program; nothing but
the standard library is imported therefore.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

#: What may be missing from an interpreter that was installed in part, beside what pytest imports.
_NEEDED = ("ctypes", "json", "pickle", "pytest", "socket", "tomllib")


@dataclass(frozen=True)
class Interpreter:
    """A Python program and its standard library."""

    executable: Path
    #: sys.version.
    version: str
    #: Of the byte code it runs, and of extension modules it loads.
    kind: str
    #: The folders of the standard library.
    folders: tuple[str, ...]

    def dumps(self) -> str:
        """Return it as JSON."""
        return json.dumps((str(self.executable), self.version, self.kind, self.folders))

    @classmethod
    def loads(cls, text: str | bytes) -> Interpreter:
        """Return what :meth:`dumps` made; ValueError when *text* is something else."""
        executable, version, kind, folders = json.loads(text)
        return cls(Path(executable), version, kind, tuple(folders))


def own() -> Interpreter:
    """Return the running interpreter."""
    # In a virtual environment "platstdlib" would be a folder of its own, with nothing in it.
    base = {"platbase": sys.base_exec_prefix}
    folders = {sysconfig.get_path(name, vars=base) for name in ("stdlib", "platstdlib")}
    kind = f"{sys.implementation.cache_tag}{sys.abiflags} {importlib.util.MAGIC_NUMBER.hex()}"
    executable = Path(sys.executable).resolve()
    return Interpreter(executable, sys.version, kind, tuple(sorted(folders)))


def ask(executable: Path, path: Sequence[str]) -> Interpreter | None:
    """Return what *executable* is; None unless it runs, and has what a guest needs.

    :param path: where it is to look for pytest.
    """
    command = [str(executable), "-ISB", __file__, *path]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)
        return Interpreter.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return None


def others(running: Path, folders: Iterable[str]) -> Iterator[Path]:
    """Yield the programs in *folders* that go by the name of this Python's version, without
    *running*."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    seen = {running}
    for folder in folders:
        path = (Path(folder) / name).resolve()
        if path not in seen and os.access(path, os.X_OK) and path.is_file():
            seen.add(path)
            # A script there would choose among several Pythons, and most likely start this one.
            with path.open("rb") as file:
                if file.read(2) != b"#!":
                    yield path


def main() -> None:
    """Write what this interpreter is to standard output."""
    sys.path[:0] = sys.argv[1:]
    for name in _NEEDED:
        importlib.import_module(name)
    print(own().dumps())


if __name__ == "__main__":
    main()
