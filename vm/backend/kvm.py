# SPDX-License-Identifier: GPL-2.0-only
"""Tells whether KVM works here.

That /dev/kvm can be opened says little: in a guest without nested virtualisation QEMU aborts, or
runs and its guest never prints a word. So KVM is used once a kernel has been seen to speak under
it, and the answer is kept until the machine is booted again.
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
from vm.arch import QEMU_CONSOLE, QEMU_MACHINE
from vm.backend.qemu import Qemu
from vm.kernel.image import Kernel
from vm.process import started

_KVM = Path("/dev/kvm")
#: Seconds for a guest under KVM to print its first line; it takes a fraction of one.
_PROBE_LIMIT = 5.0


def _boots(qemu: Qemu, kernel: Kernel) -> bool:
    """Whether *kernel* is seen to print under *qemu* within a few seconds."""
    command = [
        *(
            str(qemu.program),
            *qemu.options,
            "-machine",
            QEMU_MACHINE,
            "-accel",
            "kvm",
            "-cpu",
            "host",
        ),
        *("-m", "256M", "-kernel", str(kernel.path), "-nodefaults", "-no-user-config"),
        *("-display", "none", "-monitor", "none", "-no-reboot", "-serial", "stdio"),
        *("-append", f"console={QEMU_CONSOLE} earlyprintk=serial,{QEMU_CONSOLE} panic=-1"),
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
        return f"there is no {_KVM}"
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
    return "" if known[key] else f"no guest booted under {_KVM}"


def accelerated(qemu: Qemu, kernel: Kernel) -> Qemu:
    """*qemu* with KVM where a guest boots under it; else emulating, and a line that says why."""
    reason = _reason_against_kvm(qemu, kernel)
    if not reason:
        return replace(qemu, accelerator="kvm")
    _say(f"no KVM ({reason}): using emulation, which is several times slower")
    return qemu


@functools.cache
def _say(text: str) -> None:
    """Print it, once for all kernels."""
    print(text, flush=True)
