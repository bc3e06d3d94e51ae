# SPDX-License-Identifier: GPL-2.0-only
"""Kernel configurations: what a `.config` or a fragment of one says, and one laid over another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from vm import paths
from vm.errors import Exit, Problem

#: What the cases need, in the form the kernel's own selftests have it.
CASES = paths.ROOT / "tests/open_tree_ns/config"
#: What a guest needs to start and to answer, per architecture; and what --debug-kernel and
#: --coverage add.
_CONFIGS = Path(__file__).parent / "configs"
DEBUG = _CONFIGS / "debug.config"
COVERAGE = _CONFIGS / "coverage.config"
#: Option that is wanted only because it selects another, which cannot be set by itself.
_SELECTS = {"USER_EVENTS": "TRACING"}
_VALUE = re.compile(r'[ymn]|-?\d+|0[xX][0-9a-fA-F]+|"(?:[^"\\]|\\.)*"')
_LINE = re.compile(r"^(?:CONFIG_(\w+)=(.*)|# CONFIG_(\w+) is not set)$", re.M)


def guest(arch: str) -> Path:
    """Return the fragment with what a guest of the architecture *arch* cannot do without."""
    return _CONFIGS / f"{arch}.config"


def options(text: str) -> dict[str, str]:
    """Option, without CONFIG_, to its value as it stands there; "n" for one that is not set."""
    return {name or unset: value if name else "n" for name, value, unset in _LINE.findall(text)}


def read(path: Path) -> dict[str, str]:
    """Return the options in the file *path*."""
    return options(path.read_text(errors="replace"))


def require_fragment(path: Path) -> None:
    """Raise Problem where *path* is not a fragment: options, comments and blank lines."""
    try:
        lines = path.read_text().splitlines()
    except (OSError, ValueError) as error:
        text = error.strerror if isinstance(error, OSError) else "not a text"
        raise Problem(f"--kconfig {path}: {text}", Exit.USAGE) from None
    found = False
    for number, line in enumerate(lines, 1):
        option = _LINE.fullmatch(line)
        if option and (option[3] or _VALUE.fullmatch(option[2])):
            found = True
        elif option or (line.strip() and not line.startswith("#")):
            raise Problem(
                f"--kconfig {path}:{number}: not an option: {line}\n"
                'hint: CONFIG_NAME=y, =m, =n, =100 or ="text"; a comment has a line of its own',
                Exit.USAGE,
            )
    if not found:
        raise Problem(f"--kconfig {path}: no option in it\nhint: CONFIG_NAME=y", Exit.USAGE)


def over(base: str, fragments: Iterable[str]) -> str:
    """Return *base* with the *fragments* laid over it, a later one over an earlier."""
    have = options(base)
    wanted: dict[str, str] = {}
    for fragment in fragments:
        wanted |= options(fragment)
    wanted = {name: value for name, value in wanted.items() if not _needless(have, name)}
    kept = [
        line
        for line in base.splitlines()
        if (match := _LINE.match(line)) is None or (match[1] or match[3]) not in wanted
    ]
    added = [
        f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
        for name, value in wanted.items()
    ]
    return "\n".join([*kept, *added, ""])


def _needless(have: Mapping[str, str], name: str) -> bool:
    """Whether what *name* would select is there without it."""
    return have.get(_SELECTS.get(name, name)) == "y" != have.get(name)


def missing(have: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Return the options of *wanted* that *have* has not; a module will do where "y" is wanted."""
    return [
        name
        for name, value in wanted.items()
        if have.get(name, "n") != value
        and (have.get(name), value) != ("m", "y")
        and not _needless(have, name)
    ]
