# SPDX-License-Identifier: GPL-2.0-only
"""A Python for guests of another processor than this machine's: the distribution's own packages.

They are fetched as kernels are, signatures checked, and unpacked into the cache; nothing of them
runs here. pytest and what it needs are the launcher's own: they are Python and no more. The
launcher's version of Python is taken where the distribution has it: byte code can then be made
here.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from vm import paths
from vm.arch import Processor
from vm.distro import apt
from vm.errors import Problem
from vm.initramfs.interpreter import Interpreter
from vm.initramfs.python import Runtime

#: The launcher's.
_OWN = f"python{sys.version_info.major}.{sys.version_info.minor}"


def _python(state: apt.Apt) -> str:
    """Return the Python to take, such as "python3.13": the launcher's version, or the default."""
    if f"{_OWN}-minimal" in state.names(f"{_OWN}-minimal"):
        return _OWN
    return "python" + ".".join(state.package("python3-minimal").version.split(".")[:2])


def _fill(draft: Path, processor: Processor) -> None:
    """Unpack Python and all that it needs in *draft*."""
    _, codename = apt.distribution()
    # The release alone: a mirror may have no more of what is not its own processor.
    sites = [site for site in apt.own_sites() if site[1] == codename]
    if not sites:
        raise Problem("it is taken from packages for apt, and this machine has no source of them")
    state = apt.Apt("release", sites, processor.debian)
    state.update()
    python = _python(state)
    packages = state.missing(f"{python}-minimal", f"lib{python}-stdlib")
    state.unpack(packages, draft, f"{python} for {processor.debian}")
    for path in list(draft.rglob("*")):
        if path.is_symlink() and (target := os.readlink(path)).startswith("/"):
            path.unlink()
            path.symlink_to(os.path.relpath(draft / target[1:], path.parent))
    for folder in ("lib", "lib64"):
        if not (draft / folder).exists():  # as in every system since they were merged
            (draft / folder).symlink_to(f"usr/{folder}")


def root(processor: Processor) -> Path:
    """Return the folder with Python for *processor*, fetched when the cache lacks it.

    :raises Problem: it cannot be fetched.
    """
    name, codename = apt.distribution()
    path = paths.cache() / "roots" / f"{name}-{codename}-{processor.debian}-{_OWN}"
    with paths.locked("roots"):
        try:
            return paths.entry(path, lambda draft: _fill(draft, processor)).resolve()
        except Problem as problem:
            raise Problem(
                f"no Python for {processor.debian}, which guests are: {problem.what}\n"
                "hint: take a kernel for this machine's own processor"
            ) from None


def runtime(processor: Processor, own: Runtime) -> Runtime:
    """Return the runtime of guests with *processor*: Python from packages, the rest from *own*.

    :raises Problem: it cannot be fetched.
    """
    folder = root(processor)
    program = next(folder.glob("usr/bin/python3.*[0-9]"))
    found = Interpreter(
        Path("/usr/bin") / program.name,
        program.name,
        processor.debian,
        (f"/usr/lib/{program.name}",),
    )
    compiler = own.compiler if program.name == _OWN else None
    return replace(own, interpreter=found, compiler=compiler, root=folder)
