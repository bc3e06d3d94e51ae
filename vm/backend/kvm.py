# SPDX-License-Identifier: GPL-2.0-only
"""Tells whether KVM works here.

That /dev/kvm can be opened says little: in a guest without nested virtualisation QEMU aborts, or
runs and its guest never prints a word. So KVM is used once a kernel has been seen to speak under
it, which is remembered until the machine is booted again.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from vm import paths
from vm.backend.qemu import Qemu
from vm.kernel.image import Kernel
from vm.process import started
from vm.terminal import say

_KVM = Path("/dev/kvm")
#: Seconds for a guest under KVM to print its first line; it takes a fraction of one.
_PROBE_LIMIT = 5.0


def _boots(qemu: Qemu, kernel: Kernel) -> bool:
    """Whether *kernel* is seen to print under *qemu* within a few seconds."""
    command = [
        *(
            str(qemu.program),
            *qemu.options,
            *("-machine", qemu.board.machine, "-accel", "kvm", "-cpu", "host"),
        ),
        *("-m", "256M", "-kernel", str(kernel.path), "-nodefaults", "-no-user-config"),
        *("-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio"),
        *("-append", f"console={qemu.board.console} {qemu.board.early} panic=-1"),
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


def _tried(qemu: Qemu, kernel: Kernel) -> bool:
    """Return whether a guest boots under KVM here: with *kernel*, or with one that did before.

    That one did says that KVM works, until the machine is booted again. That one did not may be its
    own fault, and is remembered of that kernel alone.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = f"{boot} {qemu.program} {os.getuid()}"
    info = kernel.path.stat()
    this = f"{kernel.path} {info.st_size} {info.st_mtime_ns}"
    try:
        known = json.loads(_memory().read_text())[key]
        works, failed = bool(known["works"]), list(known["failed"])
    except (OSError, ValueError, KeyError, TypeError):
        works, failed = False, []
    if works or this in failed:
        return works
    works = _boots(qemu, kernel)
    known = {key: {"works": works, "failed": [*failed, *([] if works else [this])]}}
    with tempfile.NamedTemporaryFile("w", dir=_memory().parent, delete=False) as file:
        json.dump(known, file)
    Path(file.name).replace(_memory())
    return works


def _memory() -> Path:
    return paths.cache() / "kvm.json"


def _reason_against_kvm(qemu: Qemu, kernel: Kernel, trial: bool) -> str:
    """Why KVM is not used, empty when it is."""
    if not qemu.arch.processor.native:
        return f"the kernel is for {qemu.arch.name}"
    if not _KVM.exists():
        return f"there is no {_KVM}"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return f"{_KVM} is not accessible to this user"
    if not trial or _tried(qemu, kernel):
        return ""
    return f"{kernel.origin} did not boot under {_KVM}; {_memory()} remembers that"


def accelerated(qemu: Qemu, kernel: Kernel, trial: bool = True) -> Qemu:
    """Return *qemu* with KVM where a guest boots under it; else emulating, and a line that says
    why.

    :param trial: whether a guest may be started to see it; else a /dev/kvm is taken for working.
    """
    reason = _reason_against_kvm(qemu, kernel, trial)
    if not reason:
        return replace(qemu, accelerator="kvm")
    _say(f"no KVM ({reason}): using emulation, which is several times slower")
    return qemu


@functools.cache
def _say(text: str) -> None:
    """Print it, once for each kernel."""
    say(text)
