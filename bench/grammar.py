# SPDX-License-Identifier: GPL-2.0-only
"""What the command lines of benchmark and launcher share: how numbers are written, and how a
mistake is told."""

from __future__ import annotations

import argparse
import difflib
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_MEBIBYTES = {"": 1, "m": 1, "g": 1024, "t": 1024 * 1024}
_WORD = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-z]?)(?:i?b)?", re.I)


class Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviations, which would change their meaning with each new option,
    and tells a mistake in a line, with a hint on the next."""

    def __init__(self, **settings: Any) -> None:
        """*settings* are argparse's; the first words of `prog` are "python3 -m NAME"."""
        super().__init__(
            **settings, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
        )

    def error(self, message: str) -> NoReturn:
        """Print *message* and exit with the status of a usage error."""
        message = message.removeprefix("argument ")
        if "\nhint: " not in message:
            message += f"\nhint: {self.prog} --help lists what there is"
        self.exit(2, f"{self.prog.split()[2]}: {message}\n")

    def unknown(self, words: Sequence[str], hint: str) -> NoReturn:
        """Exit for *words* that no option takes: *hint*, or an option that is almost the first."""
        name = words[0].partition("=")[0]
        near = difflib.get_close_matches(name, self._option_string_actions, 1)
        if name.startswith("--") and near:
            hint = f"did you mean {near[0]}?"
        self.error(f"{' '.join(words)}: nothing takes this here\nhint: {hint}")


def path(text: str) -> Path:
    """Return the path *text*, which is not empty."""
    if not text:
        raise argparse.ArgumentTypeError(EMPTY)
    return Path(text)


#: Why an empty word is refused.
EMPTY = "empty\nhint: is a shell variable not set?"


def whole(text: str, least: int = 0) -> int:
    """Return the whole number *text*, at least *least*."""
    if not re.fullmatch(r"\d+", text, re.A) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return int(text)


def count(text: str) -> int:
    """Return the whole number *text*, at least 1."""
    return whole(text, 1)


def _measured(text: str, units: dict[str, int]) -> float:
    """Return *text*, a number with one of the *units* or none, in the unit of none; else NaN."""
    match = _WORD.fullmatch(text)
    if match is None or match[2].lower() not in units:
        return math.nan
    return float(match[1]) * units[match[2].lower()]


def seconds(text: str) -> float:
    """Return the seconds in *text*, as systemd has them: 90, 1.5, 90s, 2m, 1h."""
    value = _measured(text, _SECONDS)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a time above 0: write seconds, or 90s, 2m, 1h"
        )
    return value


def mebibytes(text: str) -> int:
    """Return the MiB in *text*, as QEMU has them: 1024, 512M, 1G."""
    value = _measured(text, _MEBIBYTES)
    if not 1 <= value < math.inf or value % 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size of memory: write MiB, or 512M, 1G"
        )
    return int(value)
