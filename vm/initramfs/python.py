# SPDX-License-Identifier: GPL-2.0-only
"""Finds the Python and the pytest that a guest runs: the launcher's own libraries, and the
launcher's own interpreter or a quicker one of the same version.

When the running interpreter has what pyproject.toml asks for, nothing is fetched. Otherwise a
private virtual environment in the cache gets it, made once per interpreter and requirements.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from vm import paths, pins
from vm.errors import Problem
from vm.initramfs import interpreter, libraries
from vm.initramfs.interpreter import Interpreter
from vm.process import output
from vm.terminal import say

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?$")


@dataclass(frozen=True)
class Runtime:
    """An interpreter and the distributions that go into a guest with it."""

    interpreter: Interpreter
    distributions: tuple[metadata.Distribution, ...]
    #: Where an interpreter on the host finds them, and no standard library.
    path: list[str]
    #: The program here that makes byte code for the interpreter, None where there is none.
    compiler: Path | None
    #: Where the interpreter and its libraries lie here, by their paths in the guest.
    root: Path = Path("/")

    @property
    def executable(self) -> Path:
        """The interpreter's program."""
        return self.interpreter.executable

    @property
    def native(self) -> bool:
        """Whether the interpreter is one of this machine's own."""
        return self.root == Path("/")

    def here(self, path: str | Path) -> Path:
        """Return where the interpreter's file *path* lies on this machine."""
        return self.root / str(path).lstrip("/")

    @property
    def versions(self) -> dict[str, str]:
        """Version per distribution name."""
        return {d.metadata["Name"]: d.version for d in self.distributions}


def requirements(extra: str = "") -> list[str]:
    """Return the project's requirements, or those of the optional group *extra*."""
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    found = project["optional-dependencies"][extra] if extra else project["dependencies"]
    return [str(requirement) for requirement in found]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.split("+")[0]))


def satisfied(wanted: Iterable[str], path: Sequence[str]) -> bool:
    """Return whether the distributions on *path* meet *wanted* (names with an optional `>=`)."""
    present = {pins.normal(d.metadata["Name"] or ""): d.version for d in _all(path)}
    for requirement in wanted:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            return False  # anything richer is for pip to judge
        name, least = match.groups()
        version = present.get(pins.normal(name))
        if version is None or (least and _numbers(version) < _numbers(least)):
            return False
    return True


def _all(path: Sequence[str]) -> list[metadata.Distribution]:
    return list(metadata.distributions(path=list(path)))


def _closure(wanted: Iterable[str], path: Sequence[str]) -> tuple[metadata.Distribution, ...]:
    """*wanted* and what they require, as far as it is installed; extras are left out."""
    present: dict[str, metadata.Distribution] = {}
    for distribution in _all(path):
        present.setdefault(pins.normal(distribution.metadata["Name"] or ""), distribution)
    todo = list(wanted)
    chosen: dict[str, metadata.Distribution] = {}
    while todo:
        requirement = todo.pop()
        match = re.match(r"[A-Za-z0-9._-]+", requirement)
        name = pins.normal(match[0]) if match else ""
        # A requirement under a marker that does not hold here is simply not installed.
        if name in chosen or name not in present or "extra ==" in requirement:
            continue
        chosen[name] = present[name]
        todo += present[name].requires or []
    return tuple(chosen[name] for name in sorted(chosen))


def _first_line_of_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no message"])[0]


def environment(wanted: Sequence[str]) -> Path:
    """Return a private virtual environment with *wanted* installed: from the cache, or made now.

    Raises Problem when it cannot be made: no venv module, no package index.
    """
    executable = Path(sys.executable).resolve()
    pinned = pins.pinned(wanted)
    key = hashlib.sha256(repr((str(executable), sys.version, pinned)).encode()).hexdigest()
    path = paths.cache() / "venv" / key[:16]
    complete = path / "complete"
    with paths.locked("venv"):
        if complete.exists():
            return path
        say(f"making a virtual environment with {', '.join(wanted)} ...")
        # Not renamed into place: an environment carries its own path.
        _check(
            [str(executable), "-m", "venv", "--clear", str(path)],
            "a virtual environment (on Debian: apt install python3-venv)",
        )
        chosen = path / "requirements.txt"
        chosen.write_text(pinned)
        pip = [str(path / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
        options = ("--quiet", "--no-input", "--require-hashes", "--no-deps")
        _check(
            [*pip, "install", *options, "--requirement", str(chosen)],
            f"{' '.join(wanted)} from the package index; install them for {executable} by hand",
        )
        complete.touch()
    return path


def _check(command: list[str], what: str) -> None:
    done = output(command)
    if done.returncode:
        why = _first_line_of_error(done.stderr or done.stdout)
        raise Problem(
            f"cannot get {what}: {why}\n"
            "hint: pip reads PIP_INDEX_URL and the like; a Python that has the packages needs none"
        )


def _through_libpython(executable: Path) -> bool:
    """Whether *executable* is but a few lines, and Python itself a shared library."""
    linked, _ = libraries.needed(executable, ())
    return any(Path(path).name.startswith("libpython") for path in linked)


def _quickest(own: Interpreter, path: Sequence[str]) -> Interpreter:
    """*own*, or one of the same version that is a program of its own where *own* is not.

    What lies in a shared library is called through a table, even from within that library: any
    program might put another function in its place. An emulated guest takes a tenth longer.
    """
    folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *os.defpath.split(os.pathsep)]
    others = list(interpreter.others(own.executable, filter(os.path.isabs, folders)))
    times = [(str(file), file.stat().st_mtime_ns) for file in (own.executable, *others)]
    # Remembered: to ask one takes a quarter of a second.
    asking = Path(interpreter.__file__).read_text()
    key = hashlib.sha256(repr((times, own, path, asking)).encode()).hexdigest()[:16]
    entry = paths.cache() / "interpreters" / f"{key}.json"

    def choose(draft: Path) -> None:
        chosen = own
        if others and _through_libpython(own.executable):
            asked = (interpreter.ask(other, path) for other in others)
            better = (
                other
                for other in asked
                if other and other.kind == own.kind and not _through_libpython(other.executable)
            )
            chosen = next(better, own)
        draft.write_text(chosen.dumps())

    with paths.locked("interpreters"):
        return Interpreter.loads(paths.entry(entry, choose).read_text())


def find(extra: str = "") -> Runtime:
    """Return the runtime for guests, made when need be; with the optional group *extra* of
    packages."""
    wanted = requirements() + (requirements(extra) if extra else [])
    if not sys.executable or not Path(sys.executable).is_file():
        raise Problem(
            "cannot tell which Python is running\nhint: start this with a full path to it"
        )
    path = [entry for entry in sys.path if entry]
    if not satisfied(wanted, path):
        base = str(environment(wanted))
        path = [sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base})]
        if not satisfied(wanted, path):
            raise Problem(
                f"{path[0]} lacks {', '.join(wanted)}\nhint: remove the folder and try again"
            )
    distributions = _closure(wanted, path)
    folders = sorted({str(distribution.locate_file("")) for distribution in distributions})
    chosen = _quickest(interpreter.own(), folders)
    return Runtime(chosen, distributions, folders, chosen.executable)
