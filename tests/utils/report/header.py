# SPDX-License-Identifier: GPL-2.0-only
"""The head of a run: what a report about this kernel needs, ready to be copied into it."""

from __future__ import annotations

import os
import platform
import resource
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from tests.utils.probes import flag
from tests.utils.uapi.caps import CAP_SYS_ADMIN, effective_in_proc

#: The letter of each bit (Documentation/admin-guide/tainted-kernels.rst). "P" is "G" when clear,
#: which says nothing.
_TAINT = "PFSRMBUDAWCIOELKXTNJ"
_USERNS = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)
#: The limits that the cases run under, besides those of _USERNS.
_LIMITS = ("user/max_mnt_namespaces", "user/max_user_namespaces", "fs/mount-max")
_RLIMITS = {"RLIMIT_NOFILE": resource.RLIMIT_NOFILE, "RLIMIT_NPROC": resource.RLIMIT_NPROC}
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
    effective = effective_in_proc()
    last = _read("/proc/sys/kernel/cap_last_cap")
    if last and effective == (2 << int(last)) - 1:
        held = "all"
    elif not effective:
        held = "none"
    else:
        with_or_without = "with" if effective >> CAP_SYS_ADMIN & 1 else "without"
        held = f"some, {with_or_without} CAP_SYS_ADMIN"
    return f"uid {os.getuid()}, euid {os.geteuid()}, effective capabilities {effective:x} ({held})"


def _sysctls(*names: str) -> dict[str, str]:
    values = {name.replace("/", "."): _read(f"/proc/sys/{name}") for name in names}
    # One that is not there is not one of this kernel's.
    return {name: value for name, value in values.items() if value}


def _rlimit(number: int) -> str:
    """A limit of this process, soft and hard."""
    parts = resource.getrlimit(number)
    return "/".join("unlimited" if n == resource.RLIM_INFINITY else str(n) for n in parts)


def _limits() -> dict[str, str]:
    own = {name: _rlimit(number) for name, number in _RLIMITS.items()}
    return {**_sysctls(*_LIMITS), **own}


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@dataclass(frozen=True)
class Facts:
    """What was run, where, and by whom; vm/RESULTS.md has the meaning of each field."""

    release: str
    version: str
    machine: str
    cmdline: str
    #: The mask, None where it cannot be read.
    taint: int | None
    lsm: str
    caller: str
    userns: dict[str, str]
    limits: dict[str, str]
    probe: str
    python: str
    packages: dict[str, str]


def facts() -> Facts:
    """The facts of this process."""
    name = os.uname()
    mask = _read("/proc/sys/kernel/tainted")
    return Facts(
        release=name.release,
        version=name.version,
        machine=name.machine,
        cmdline=_read("/proc/cmdline"),
        taint=int(mask) if mask else None,
        lsm=_read("/sys/kernel/security/lsm"),
        caller=_caller(),
        userns=_sysctls(*_USERNS),
        limits=_limits(),
        probe=flag.probe().reason,
        python=platform.python_version(),
        packages=_packages(),
    )


def lines() -> list[str]:
    """The head, one fact a line."""
    known = facts()
    switches = ", ".join(f"{name} = {value}" for name, value in known.userns.items())
    limits = ", ".join(
        f"{name} = {value}" for name, value in known.limits.items() if name not in known.userns
    )
    packages = (
        f"{name} {known.packages[name]}" if name in known.packages else f"no {name}"
        for name in _PACKAGES
    )
    return [
        f"kernel: Linux {known.release} {known.machine}, {known.version}",
        f"command line: {known.cmdline or 'unreadable'}",
        f"taint: {'unreadable' if known.taint is None else taint(known.taint)}",
        f"security modules: {known.lsm or 'unreadable'}",
        f"caller: {known.caller}",
        f"user namespaces: {switches or 'no sysctls'}",
        f"limits: {limits}",
        f"probe: {known.probe}",
        f"versions: {', '.join([f'Python {known.python}', *packages])}",
    ]
