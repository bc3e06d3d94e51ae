# SPDX-License-Identifier: GPL-2.0-only
"""Builds the guest's root file system: Python, pytest, the cases, and nothing else.

Three archives make one image: the base (interpreter, standard library, pytest, their libraries)
and the checkout's cases, both cached, and what is to be done in this run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from vm import paths
from vm.errors import Problem
from vm.guest.protocol import COMPLETE, JOB, LAUNCHER, MODULES, PROJECT, SITE, Job
from vm.initramfs import bytecode, cpio, libraries
from vm.initramfs.cpio import Archive
from vm.initramfs.python import Runtime
from vm.process import stripped

#: Standard library that no case and no part of pytest needs: tests, GUIs, installers, databases.
_NO_PACKAGES = frozenset(
    (
        *("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "distutils", "venv"),
        *("pydoc_data", "wsgiref", "xmlrpc", "sqlite3", "curses", "dbm"),
        *("site-packages", "dist-packages"),
    )
)
_NO_EXTENSIONS = (
    *("_tkinter", "_curses", "readline", "_ssl", "_hashlib", "_sqlite3", "_dbm", "_gdbm", "nis"),
    *("_test", "_codecs_", "_decimal", "_xxtest", "xxlimited", "_ctypes_test"),
)
#: What of the checkout goes along.
_PROJECT_FILES = ("pyproject.toml", "conftest.py")
_PROJECT_FOLDERS = ("bench", "tests")
#: Archives of the checkout that the cache keeps.
_KEPT = 8


@dataclass
class Tree:
    """Files by their path in the guest."""

    files: dict[str, Path] = field(default_factory=dict)

    def add_folder(self, folder: Path, to: str, skip: frozenset[str] = frozenset()) -> None:
        """Add the Python files and data below *folder*, without byte code and *skip*."""
        for path, names, files in os.walk(folder):
            here = Path(path)
            names[:] = [
                name
                for name in names
                if name != "__pycache__"
                and not (here == folder and (name in skip or name.startswith("config-")))
            ]
            for name in files:
                if not name.endswith((".pyc", ".a", ".exe", ".o")):
                    self.files[f"{to}/{(here / name).relative_to(folder)}"] = here / name


def add_python(archive: Archive, name: str, source: Path, compiled: bool = True) -> None:
    """Add a module and, if *compiled*, its byte code; a template, which is no Python, has none."""
    archive.file(name, source.read_bytes())
    if not compiled:
        return
    try:
        archive.file(bytecode.pyc_name(name), bytecode.pyc(source, name))
    except (SyntaxError, ValueError):
        return


def _distribution_files(distribution: metadata.Distribution) -> Iterator[tuple[str, Path]]:
    """(path below site-packages, host path) of a distribution's importable files and metadata."""
    files = [file for file in distribution.files or [] if ".." not in file.parts]
    if files:
        for file in files:
            if "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield str(file), Path(str(file.locate()))
        return
    # A distribution's packages (Debian's, Fedora's) may come without the list of their files.
    top = (distribution.read_text("top_level.txt") or "").split()
    names = top or [(distribution.metadata["Name"] or "").replace("-", "_").lower()]
    site = Path(str(distribution.locate_file("")))
    info = getattr(distribution, "_path", None)
    for name in [*names, *([Path(info).name] if info else [])]:
        for path in (site / name, site / f"{name}.py"):
            if path.is_dir():
                tree = Tree()
                tree.add_folder(path, name)
                yield from tree.files.items()
            elif path.is_file():
                yield path.name, path


def _base_tree(runtime: Runtime) -> Tree:
    tree = Tree()
    for folder in runtime.interpreter.folders:
        tree.add_folder(runtime.here(folder), folder, _NO_PACKAGES)
    for distribution in runtime.distributions:
        for name, path in _distribution_files(distribution):
            if path.is_file() and (runtime.native or not libraries.is_elf(path)):
                tree.files[f"{SITE}/{name}"] = path
    return tree


def _key(runtime: Runtime) -> str:
    """What the base archive depends on, as a short name."""
    program = runtime.here(runtime.executable)
    stat = program.stat()
    parts: list[object] = [
        *(str(program), stat.st_size, stat.st_mtime_ns, runtime.interpreter.version),
    ]
    for distribution in runtime.distributions:
        place = str(distribution.locate_file(""))
        parts.append((distribution.metadata["Name"], distribution.version, place))
    parts += [Path(file).read_text() for file in (__file__, libraries.__file__)]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _write_base(runtime: Runtime, draft: Path) -> None:
    tree = _base_tree(runtime)
    extensions = {
        name: path
        for name, path in tree.files.items()
        if ".so" in path.name and libraries.is_elf(path)
    }
    for name in [n for n in extensions if Path(n).name.startswith(_NO_EXTENSIONS)]:
        del extensions[name], tree.files[name]
    program, compiled = runtime.here(runtime.executable), runtime.compiler is not None
    if runtime.native:
        needed, dropped = libraries.needed(program, extensions.values())
    else:
        needed, dropped = libraries.needed_below(runtime.root, program, extensions.values())
    real = {library: os.path.realpath(runtime.here(library)) for library in sorted(needed)}
    with draft.open("wb") as stream:
        archive = Archive(stream)
        for device, major, minor in (("console", 5, 1), ("null", 1, 3), ("urandom", 1, 9)):
            # Before /dev is mounted Python wants random numbers, and the kernel a console.
            archive.device(f"/dev/{device}", major, minor)
        elves = {str(runtime.executable): program}
        elves |= {f"/{os.path.relpath(path, runtime.root)}": Path(path) for path in real.values()}
        elves |= {name: path for name, path in extensions.items() if path not in dropped}
        for name, path in sorted(elves.items()):
            archive.file(name, stripped(path.read_bytes(), "--strip-unneeded"), 0o755)
        for library, target in real.items():
            if (name := f"/{os.path.relpath(target, runtime.root)}") != library:
                archive.symlink(library, name)
        for name, file in sorted(tree.files.items()):
            if file.suffix == ".py":
                add_python(archive, name, file, compiled)
            elif name not in extensions:
                archive.file(name, file.read_bytes())
        for folder, mode in (("/proc", 0o555), ("/sys", 0o555), ("/run", 0o755), ("/tmp", 0o1777)):
            archive.folder(folder, mode)
        archive.folder("/root", 0o700)
        archive.file("/etc/passwd", b"root:x:0:0:root:/root:\nnobody:x:65534:65534:nobody:/tmp:\n")
        archive.file("/etc/group", b"root:x:0:\nnogroup:x:65534:\n")
        archive.close()


def base(runtime: Runtime) -> Path:
    """Return the cached base archive for *runtime*, built when it is missing."""
    with paths.locked("base"):
        path = paths.cache() / "base" / f"{_key(runtime)}.cpio"
        paths.entry(path, lambda draft: _write_base(runtime, draft))
    return path


def project_files(root: Path = paths.ROOT) -> dict[str, Path]:
    """Return what of the checkout goes into a guest: path in the guest -> path here."""
    tree = Tree()
    for name in _PROJECT_FILES:
        if (root / name).is_file():
            tree.files[f"{PROJECT}/{name}"] = root / name
    for name in _PROJECT_FOLDERS:
        tree.add_folder(root / name, f"{PROJECT}/{name}")
    return tree.files


def guest_files() -> dict[str, Path]:
    """Return what of the launcher runs in a guest: path in the guest -> path here."""
    top = paths.ROOT / "vm"
    return {
        f"{LAUNCHER}/vm/{path.relative_to(top)}": path
        for path in (top / "__init__.py", *sorted((top / "guest").glob("*.py")))
    }


def _project_key(files: dict[str, Path], runtime: Runtime) -> str:
    digest = hashlib.sha256(_key(runtime).encode())
    mine = {file: Path(file) for file in (bytecode.__file__, cpio.__file__)}
    for name, path in sorted({**files, **guest_files(), **mine}.items()):
        digest.update(f"{name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def shebang(runtime: Runtime) -> bytes:
    """Return the first line of /init. Raises Problem when the kernel could not start it."""
    line = f"#!{runtime.executable} -IS\n".encode()
    if len(line) > 127 or line.count(b" ") > 1:
        raise Problem(
            f"the kernel cannot start {runtime.executable}: path too long or with blanks\n"
            "hint: start this with a Python that lies elsewhere"
        )
    return line


def _write_project(files: dict[str, Path], runtime: Runtime, draft: Path) -> None:
    mine, compiled = guest_files(), runtime.compiler is not None
    with draft.open("wb") as stream:
        archive = Archive(stream, bytecode.MTIME)
        init = mine[f"{LAUNCHER}/vm/guest/init.py"].read_bytes()
        archive.file("/init", shebang(runtime) + init, 0o755)
        for name, path in mine.items():
            add_python(archive, name, path, compiled)
        modules = {name: path for name, path in files.items() if path.suffix == ".py"}
        # The harness's tests are seldom run in a guest: they go along as they are.
        run = {n: p for n, p in modules.items() if not n.startswith(f"{PROJECT}/tests/harness")}
        for name, path in sorted(files.items()):
            if name in run:
                add_python(archive, name, path, compiled)
            else:
                archive.file(name, path.read_bytes())
        if runtime.compiler is not None:
            found = bytecode.rewritten(run, runtime.compiler, runtime.path)
            for name, data in found.items():
                archive.file(name, data)
        archive.close()


def project(runtime: Runtime) -> Path:
    """Return the cached archive of the checkout as it is now; older ones are cleared away."""
    files = project_files()
    with paths.locked("project"):
        path = paths.cache() / "project" / f"{_project_key(files, runtime)}.cpio"
        paths.entry(path, lambda draft: _write_project(files, runtime, draft))
        path.touch()
        by_age = sorted(path.parent.glob("*.cpio"), key=lambda old: old.stat().st_mtime)
        for old in by_age[:-_KEPT]:
            old.unlink()
    return path


def write(
    image: Path,
    runtime: Runtime,
    job: Job,
    modules: Mapping[str, bytes],
    *more: Path,
) -> None:
    """Write the image of one run: the base, the checkout's cases, the *job* for init, the
    kernel's *modules* in the order to load them, and the archives *more*."""
    join(image, (base(runtime), project(runtime), *more), job, modules)


def join(image: Path, parts: Iterable[Path], job: Job, modules: Mapping[str, bytes]) -> None:
    """Write the image of the archives *parts*, the *job* and the kernel's *modules*."""
    try:
        _join(image, parts, job, modules)
    except OSError as error:
        error.filename = error.filename or str(image)
        raise


def _join(image: Path, parts: Iterable[Path], job: Job, modules: Mapping[str, bytes]) -> None:
    with image.open("wb") as stream:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, stream, 1 << 20)
        archive = Archive(stream)
        files = {f"{MODULES}/{name}.ko": data for name, data in modules.items()}
        for name, data in files.items():
            archive.file(name, data)
        archive.file(JOB, replace(job, modules=[*files]).dumps())
        # The last member: init looks for it to see that all before it was unpacked.
        archive.file(COMPLETE, b"")
        archive.close()
