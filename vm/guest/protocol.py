# SPDX-License-Identifier: GPL-2.0-only
"""What host and guest agree on: where things lie in the guest, what is to be done there, and the
kinds of messages that come back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

#: In the guest. The site-packages and the checkout have folders of their own, as has what of the
#: launcher runs there.
TOP = "/vm"
LAUNCHER, SITE, PROJECT = f"{TOP}/launcher", f"{TOP}/site", f"{TOP}/project"
#: The checkout in a complete system.
CHECKOUT = f"{TOP}/checkout"
MODULES = f"{TOP}/modules"
JOB = f"{TOP}/job.json"
#: The last file of the initramfs: where it is missing, not all was unpacked.
COMPLETE = f"{TOP}/complete"
#: In the text that pytest prints: the cases begin here, or have ended.
MARK = "\x1e"


class Kind(StrEnum):
    """The kinds of messages, in the order in which they first come."""

    #: Process 1 can speak: the environment, and when the kernel and Python had started.
    HELLO = "hello"
    #: The program begins: pytest is imported next, or a shell runs.
    READY = "ready"
    #: What pytest knows of the machine.
    FACTS = "facts"
    #: The cases that will run here, and where they stand among those of all guests.
    COLLECTED = "collected"
    #: A case begins, and how it ended.
    START = "start"
    RESULT = "result"
    #: pytest's session is over: why before its end, if so, and what became of the waivers.
    FINISHED = "finished"
    #: The benchmark's numbers.
    MEASURED = "measured"
    #: What was printed.
    TEXT = "text"
    #: Which lines of the kernel ran, of one of its objects.
    COVERAGE = "coverage"
    #: The program's exit status; the guest powers off.
    END = "end"


@dataclass
class Job:
    """What a guest is to do: written into its initramfs, read by process 1 and the program."""

    #: Signs each message of the run.
    nonce: str
    #: "pytest", "bench" or "shell".
    program: str = "pytest"
    arguments: list[str] = field(default_factory=list)
    user: str = "root"
    folder: str = PROJECT
    environment: dict[str, str] = field(default_factory=dict)
    #: Versions of what pytest consists of, for the report.
    packages: dict[str, str] = field(default_factory=dict)
    #: Path -> contents of files to write first.
    files: dict[str, str] = field(default_factory=dict)
    #: Of this guest's cases only these, if any.
    only: list[str] = field(default_factory=list)
    #: Of a shell that is typed at: rows and columns of the terminal.
    terminal: list[int] = field(default_factory=list)
    #: Paths of kernel modules, in the order to load them.
    modules: list[str] = field(default_factory=list)
    #: Whether to send which lines of the kernel ran.
    coverage: bool = False
    #: In a complete system: what else goes on, and pytest's arguments where it is part of that.
    beside: list[str] = field(default_factory=list)
    suite: list[str] = field(default_factory=list)

    def dumps(self) -> bytes:
        """Return it as JSON."""
        return json.dumps(asdict(self)).encode()


def load() -> Job:
    """Return the job of this guest."""
    with open(JOB, encoding="utf-8") as file:
        return Job(**json.load(file))
