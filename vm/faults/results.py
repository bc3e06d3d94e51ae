# SPDX-License-Identifier: GPL-2.0-only
"""What became of each fault, in a file that grows a line with each, so that nothing measured is
lost and a second start goes on behind the first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vm import paths
from vm.errors import Problem
from vm.faults.catalogue import Fault

#: What the cases of a run are made of.
_SUITE = ("tests/open_tree_ns", "tests/utils")


@dataclass(frozen=True)
class Result:
    """What was seen of one fault."""

    fault: str
    #: Of its edit, see Fault.digest.
    digest: str
    #: How it was noticed: one of HOW, empty where it was not.
    how: str
    #: The cases that noticed it, in their order.
    cases: tuple[str, ...]
    #: What the first of them said, or the kernel.
    line: str
    #: Whether all cases were asked, not only those of its rule or fix.
    whole: bool
    #: Cases that came to their end.
    ran: int
    seconds: float

    @property
    def noticed(self) -> bool:
        """Whether something noticed it."""
        return bool(self.how)


#: Result.how -> in words.
HOW = {
    "cases": "cases failed",
    "crash": "the kernel crashed",
    "hang": "the kernel or a case hung",
    "complaint": "the kernel complained",
    "no boot": "the kernel did not boot",
}


@dataclass(frozen=True)
class Baseline:
    """What the kernel does without a fault."""

    release: str
    #: Cases that passed, and those that failed, which notice nothing. That of an open finding is
    #: neither: it is expected to fail.
    passed: tuple[str, ...]
    failed: tuple[str, ...]
    seconds: float


def suite_digest() -> str:
    """Return what changes when a case, or what cases stand on, does."""
    total = hashlib.sha256()
    for folder in _SUITE:
        for path in sorted((paths.ROOT / folder).rglob("*.py")):
            total.update(str(path.relative_to(paths.ROOT)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


class Results:
    """The file of results."""

    def __init__(self, path: Path, made_with: str) -> None:
        """*made_with* says which kernel and which cases; results of others are not taken."""
        self.path = path
        self._with = made_with
        self.baseline: Baseline | None = None
        self._found: dict[str, Result] = {}
        for row in self._rows():
            if row.get("with") != made_with:
                continue
            with suppress(KeyError, TypeError):
                if "baseline" in row:
                    self.baseline = Baseline(**_tuples(row["baseline"]))
                else:
                    result = Result(**_tuples(row["result"]))
                    self._found[result.fault] = result

    def _rows(self) -> Iterator[dict[str, Any]]:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            with suppress(ValueError):  # the last one, of a start that was killed
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row

    def of(self, fault: Fault) -> Result | None:
        """Return what was seen of *fault* as it is now, None where nothing was."""
        found = self._found.get(fault.id)
        return found if found and found.digest == fault.digest else None

    def add(self, what: Result | Baseline) -> None:
        """Append *what*. Raises Problem when it cannot be written."""
        if isinstance(what, Result):
            self._found[what.fault] = what
            row = {"with": self._with, "result": asdict(what)}
        else:
            self.baseline = what
            row = {"with": self._with, "baseline": asdict(what)}
        try:
            with self.path.open("a+b") as file:
                file.seek(0, 2)
                if file.tell():
                    file.seek(-1, 2)
                    if file.read(1) != b"\n":
                        file.write(b"\n")  # half a line of a start that was killed
                file.write(json.dumps(row).encode() + b"\n")
        except OSError as error:
            raise Problem(f"{self.path}: {error.strerror}") from None


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
