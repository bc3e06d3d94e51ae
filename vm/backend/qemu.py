# SPDX-License-Identifier: GPL-2.0-only
"""Finds a QEMU, or unpacks the distribution's own into the cache; and tells whether KVM works.

That /dev/kvm can be opened says little: in a guest without nested virtualisation QEMU aborts, or
runs and its guest never prints a word. So KVM is used once a kernel has been seen to speak under
it, and the answer is kept until the machine is booted again.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import shutil
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from vm import paths
from vm.backend.base import Qemu
from vm.distro import apt
from vm.errors import Problem
from vm.kernel.image import Kernel
from vm.process import started

_PROGRAM = "qemu-system-x86_64"
_PACKAGE = "qemu-system-x86"
_KVM = Path("/dev/kvm")
#: Seconds for a guest under KVM to print its first line; it takes a fraction of one.
_PROBE_LIMIT = 5.0


def _unpacked(root: Path) -> Qemu:
    """The QEMU in *root*, packages unpacked there, told where its parts lie."""
    folders = [path for top in ("lib", "usr/lib") for path in root.glob(f"{top}/**/*.so.*")]
    libraries = sorted({str(path.parent) for path in folders})
    modules = next(iter(root.glob("usr/lib/*/qemu")), root)
    options = []
    for folder in ("usr/share/qemu", "usr/share/seabios"):
        options += ["-L", str(root / folder)]
    environment = (
        ("LD_LIBRARY_PATH", ":".join(libraries)),
        ("QEMU_MODULE_DIR", str(modules)),
    )
    return Qemu(root / "usr/bin" / _PROGRAM, tuple(options), environment)


def _check(qemu: Qemu) -> None:
    """Raise Problem when the program cannot even tell its version."""
    done = subprocess.run(
        [qemu.program, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **dict(qemu.environment)},
    )
    if done.returncode:
        words = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise Problem(f"the {_PACKAGE} package does not run here: {words}")


def _fetch() -> Qemu:
    """QEMU from the machine's own distribution, unpacked in the cache."""
    name, codename = apt.distribution()

    def make(draft: Path) -> None:
        state = apt.Apt("own", apt.own_sites())
        state.update()
        packages = state.missing(_PACKAGE)
        if not packages:
            raise Problem(f"{_PACKAGE} is installed, but {_PROGRAM} is not on PATH")
        state.unpack(packages, draft, "QEMU")
        _check(_unpacked(draft))

    root = paths.cache() / "qemu" / f"{name}-{codename}"
    with paths.locked("qemu"):
        return _unpacked(paths.entry(root, make))


def find() -> Qemu:
    """A QEMU: $QEMU, the one on PATH, or the distribution's in the cache. Problem when none."""
    wish = os.environ.get("QEMU", "")
    program = shutil.which(wish or _PROGRAM)
    if program is not None:
        return Qemu(Path(program))
    if wish:
        raise Problem(f"QEMU={wish}: no such program")
    if not apt.own_sites():
        raise Problem(f"no {_PROGRAM} on PATH: install QEMU for x86 with your package manager")
    try:
        return _fetch()
    except Problem as problem:
        raise Problem(f"no QEMU, install {_PACKAGE}: {problem}") from None


def _boots(qemu: Qemu, kernel: Kernel) -> bool:
    """Whether *kernel* is seen to print under *qemu* within a few seconds."""
    command = [
        *(str(qemu.program), *qemu.options, "-machine", "q35", "-accel", "kvm", "-cpu", "host"),
        *("-m", "256M", "-kernel", str(kernel.path), "-nodefaults", "-no-user-config"),
        *("-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio"),
        *("-append", "console=ttyS0 earlyprintk=serial,ttyS0 panic=-1"),
    ]
    seen = b""
    limit = time.monotonic() + _PROBE_LIMIT
    with started(command, (), dict(qemu.environment)) as program, selectors.DefaultSelector() as s:
        output = program.process.stdout
        assert output is not None
        s.register(output, selectors.EVENT_READ)
        while b"Linux version" not in seen and s.select(limit - time.monotonic()):
            data = os.read(output.fileno(), 4096)
            if not data:
                break
            seen += data
    return b"Linux version" in seen


def _reason_against_kvm(qemu: Qemu, kernel: Kernel) -> str:
    """Why KVM is not used, empty when it is. What was tried is remembered until the next boot."""
    if not _KVM.exists():
        return f"no {_KVM}"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return f"{_KVM} is not accessible to this user"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = f"{boot} {qemu.program} {os.getuid()}"
    memory = paths.cache() / "kvm.json"
    try:
        known = json.loads(memory.read_text())
    except (OSError, ValueError):
        known = {}
    if not isinstance(known.get(key), bool):
        known = {key: _boots(qemu, kernel)}
        with tempfile.NamedTemporaryFile("w", dir=memory.parent, delete=False) as file:
            json.dump(known, file)
        Path(file.name).replace(memory)
    return "" if known[key] else f"{_KVM} is there, but no guest boots with it"


def accelerated(qemu: Qemu, kernel: Kernel) -> Qemu:
    """*qemu* with KVM where a guest boots under it; else emulating, and a line that says why."""
    reason = _reason_against_kvm(qemu, kernel)
    if not reason:
        return replace(qemu, accelerator="kvm")
    _say(f"emulating the processor, which is slower: {reason}")
    return qemu


@functools.cache
def _say(text: str) -> None:
    """Print it, once for all kernels."""
    print(text, flush=True)
