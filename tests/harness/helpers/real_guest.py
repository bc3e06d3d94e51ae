# SPDX-License-Identifier: GPL-2.0-only
"""The launcher as a program, with a real kernel in a real guest, and what it leaves behind."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.utils.tasks.process import ended, in_child
from tests.utils.uapi.syscalls import syscall
from vm import paths
from vm.distro import apt
from vm.kernel import debian
from vm.process import WATCH

#: What --kernel takes; `python3 -m vm check` sets it.
VARIABLE = "OPEN_TREE_NS_GUEST_KERNEL"
KERNEL = os.environ.get(VARIABLE, "")
#: Cases that do harm, and a choice of them.
DEADLY = "tests/harness/helpers/deadly.py"
#: What a run of the case that waits has on its way there: "." for the case before, and its words.
WAITING = "waiting"
#: For modules of tests that boot guests.
GUESTS = [
    pytest.mark.skipif(
        not KERNEL, reason=f"boots real guests: set {VARIABLE} to what --kernel takes"
    ),
    pytest.mark.timeout(300),  # they share the processors
]
#: Marks the environment of all that a launcher starts.
_MARK = "OPEN_TREE_NS_TEST"
#: <asm/unistd_64.h>, <linux/ptrace.h>.
_PTRACE, _TRACEME = 101, 0
#: Seconds that a process which was killed can take to go where many want the processors.
_DYING = 30.0
_WATCH = [word.encode() for word in WATCH]


def deadly(*names: str) -> tuple[str, ...]:
    """pytest's words for these cases of DEADLY."""
    return "--", *(f"{DEADLY}::test_{name}" for name in names), "-q"


def lacking() -> str:
    """What this machine lacks for guests, empty where a guest that does not come up is a fault.

    A kernel in a file is the user's word that there are.
    """
    if not debian.SCHEME.names(KERNEL):
        return ""
    if apt.distribution()[0] != "debian" or os.uname().machine != "x86_64":
        return f"no packages of Debian's for x86 here: name a kernel by {VARIABLE}"
    if debian.parse(KERNEL).flavour == debian.UML:
        try:
            in_child(lambda: syscall("ptrace", _PTRACE, _TRACEME, 0, 0, 0))
        except OSError as error:
            return f"User-Mode Linux must trace processes, and may not: {error.strerror}"
    return ""


@dataclass
class RealLauncher:
    """Runs the launcher with a folder of its own for all that it writes but the cache."""

    folder: Path
    kernel: str = KERNEL
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    #: Of every launcher that was started, by its process number.
    sessions: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.temporary.mkdir()

    @property
    def temporary(self) -> Path:
        """For temporary files."""
        return self.folder / "tmp"

    @property
    def output(self) -> Path:
        """For the artefacts."""
        return self.folder / "out"

    @property
    def environment(self) -> dict[str, str]:
        """Of the launcher."""
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            "TMPDIR": str(self.temporary),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONDONTWRITEBYTECODE": "1",
            _MARK: self.mark,
        }

    def command(self, *words: str) -> list[str]:
        """The launcher's command line that runs cases; *words* follow the kernel."""
        guests = [] if "--guests" in words else ["--guests", "1"]
        return [
            *(sys.executable, "-m", "vm", "run", "--kernel", self.kernel, *guests),
            *("--output", str(self.output), *words),
        ]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        given = options.pop("input", None)
        settings = {"stdin": subprocess.PIPE} if given else {}
        with self.started(*words, **settings | options) as process:
            out, err = process.communicate(given)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    @contextmanager
    def started(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """It while it runs; in a session of its own."""
        settings: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        with subprocess.Popen(
            settings.pop("command", None) or self.command(*words),
            cwd=paths.ROOT,
            env=self.environment,
            text=True,
            start_new_session=True,
            **settings,
        ) as process:
            self.sessions.add(process.pid)
            try:
                yield process
            finally:
                process.kill()

    def processes(self) -> dict[int, int]:
        """What the launchers have started, themselves included, and has not ended: number of the
        process -> number of its parent."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    # "PID (name) state parent group session ..."
                    words = (folder / "stat").read_text().rpartition(")")[2].split()
                    # The processes of User-Mode Linux's guest have no environment.
                    marked = f"{_MARK}={self.mark}".encode() in (folder / "environ").read_bytes()
                    if words[0] != "Z" and (marked or int(words[3]) in self.sessions):
                        found[int(folder.name)] = int(words[1])
        return found

    def guests(self, launcher: subprocess.Popen[str]) -> list[int]:
        """The programs that *launcher* runs guests in."""
        return [
            pid
            for pid, parent in self.processes().items()
            if parent == launcher.pid
            and not Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"\0".join(_WATCH))
        ]

    def summary(self) -> Mapping[str, Any]:
        """The JSON summary of the last run."""
        found: dict[str, Any] = json.loads((self.output / "summary.json").read_text())
        return found

    def outcomes(self) -> dict[str, str]:
        """Case, by its last word -> outcome, in the last run."""
        cases = self.summary()["cases"]
        return {case["id"].rpartition("::test_")[2]: case["outcome"] for case in cases}

    def assert_nothing_is_left(self) -> None:
        """No process but such as are being killed, no temporary file."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                handle = os.pidfd_open(pid)
                assert ended(handle, _DYING), Path(f"/proc/{pid}/cmdline").read_bytes()
                os.close(handle)
        assert list(self.temporary.iterdir()) == []


def read_until(fd: int, text: bytes) -> bytes:
    """What comes from *fd* up to *text*."""
    seen = b""
    while text not in seen:
        seen += os.read(fd, 4096)
    return seen


def drain(fd: int, process: subprocess.Popen[str]) -> None:
    """Read what the process writes to the terminal *fd* until it has ended."""
    handle = os.pidfd_open(process.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(handle, selectors.EVENT_READ)
        selector.register(fd, selectors.EVENT_READ)
        while handle not in (ready := [key.fd for key, _ in selector.select()]):
            if fd in ready:
                os.read(fd, 4096)
    os.close(handle)
    process.wait()


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    """Read what the launcher prints until the case that waits has begun."""
    assert process.stdout is not None
    assert any(WAITING in line for line in process.stdout), process.communicate()


def shell_command(launcher: RealLauncher) -> list[str]:
    """The launcher's command line that gives a shell."""
    return [sys.executable, "-m", "vm", "shell", "--kernel", launcher.kernel]
