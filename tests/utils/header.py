# SPDX-License-Identifier: GPL-2.0-only
"""The head of a run: what a report about this kernel needs, ready to be copied into it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from tests.utils import probe
from tests.utils.caps import CAP_SYS_ADMIN, capget

#: The letter of each bit (Documentation/admin-guide/tainted-kernels.rst). "P" is "G" when clear,
#: which says nothing.
_TAINT = "PFSRMBUDAWCIOELKXTNJ"
_USERNS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
_PACKAGES = ("pytest", "pytest-xdist", "pytest-timeout")


def _read(path: str) -> str:
    """The contents of a small file, empty when it cannot be read."""
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def taint(number: int) -> str:
    """A taint mask as number and letters; a bit without a letter is given by its number."""
    if not number:
        return "0 (none)"
    bits = [bit for bit in range(number.bit_length()) if number >> bit & 1]
    names = (_TAINT[bit] if bit < len(_TAINT) else f"bit {bit}" for bit in bits)
    return f"{number} ({' '.join(names)})"


def _caller() -> str:
    effective = capget().effective
    last = _read("/proc/sys/kernel/cap_last_cap")
    if last and effective == (2 << int(last)) - 1:
        held = "all"
    elif not effective:
        held = "none"
    else:
        with_or_without = "with" if effective >> CAP_SYS_ADMIN & 1 else "without"
        held = f"some, {with_or_without} CAP_SYS_ADMIN"
    return f"uid {os.getuid()}, euid {os.geteuid()}, effective capabilities {effective:x} ({held})"


def _userns() -> str:
    values = ((name.replace("/", "."), _read(f"/proc/sys/{name}")) for name in _USERNS)
    # A switch that is not there is not one of this kernel's.
    return ", ".join(f"{name} = {value}" for name, value in values if value) or "no sysctls"


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return ", ".join(found)


def lines() -> list[str]:
    """The head, one fact a line."""
    name = os.uname()
    mask = _read("/proc/sys/kernel/tainted")
    return [
        f"kernel: {name.sysname} {name.release} {name.machine}, {name.version}",
        f"command line: {_read('/proc/cmdline') or 'unreadable'}",
        f"taint: {taint(int(mask)) if mask else 'unreadable'}",
        f"security modules: {_read('/sys/kernel/security/lsm') or 'unreadable'}",
        f"caller: {_caller()}",
        f"user namespaces: {_userns()}",
        f"probe: {probe.probe().reason}",
        f"versions: {_versions()}",
    ]
