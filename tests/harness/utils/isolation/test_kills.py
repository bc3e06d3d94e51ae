# SPDX-License-Identifier: GPL-2.0-only
"""pytest is killed at any moment, and nothing is left of its cases: no mount, no namespace, no
process, no setting, no file.

The moments are few here. For more of them:

    OPEN_TREE_NS_KILLS=50 pytest --timeout=3600 -rP tests/harness/utils/isolation/test_kills.py
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.helpers.callers import NOBODY, make_reachable, user_namespaces
from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT
from tests.utils.tasks.case_name import case_name
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.watch.new_namespaces import Namespaces, whose

#: Times with SIGKILL; SIGTERM and SIGINT come to two fifths of them each.
KILLS = int(os.environ.get("OPEN_TREE_NS_KILLS", "3"))
#: Seconds in which all that was killed must be gone.
_GONE = 20.0
#: In the environment of each process of a run.
_VARIABLE = "OPEN_TREE_NS_KILL_TEST"
#: Settings of the machine that cases have to do with.
_SETTINGS = ("fs", "kernel", "user")

#: How many cases leave processes behind.
LEAVING = 3
CASES = f"""{HEADER}
from contextlib import suppress
from pathlib import Path
from tests.utils.tasks.case_name import tmpfs_source
from tests.utils.uapi.constants import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS
from tests.utils.uapi.constants import MS_BIND
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.uapi.nsfs import current_mnt_ns
from tests.utils.uapi.syscalls import mount, setns, unshare
from tests.utils.tasks.userns import enter_new_mount_ns, enter_new_userns
many = pytest.mark.parametrize("n", range(10))
machines_pids = pytest.mark.isolated(pid_namespace=False)
def namespace():
    def make():
        enter_new_mount_ns()
        return [current_mnt_ns()]
    return fds_from_child(make)[0]
@many
def test_mounts(scratch, n):
    for name in "abc":
        (scratch / name).mkdir(); mount(tmpfs_source(), scratch / name, "tmpfs")
    mount(scratch / "a", scratch / "b", None, MS_BIND)
@many
def test_namespaces(scratch, n):
    fds = [namespace() for _ in range(5)]
    setns(fds[0], CLONE_NEWNS); mount(tmpfs_source(), scratch, "tmpfs"); time.sleep(0.01)
@many
@machines_pids
def test_machines_pids(scratch, n):
    mount(tmpfs_source(), scratch, "tmpfs"); fd = namespace()
    pid = os.fork()
    if pid == 0:
        os.setsid(); enter_new_userns(); unshare(CLONE_NEWPID)
        if os.fork() == 0: time.sleep(0.05)
        os._exit(0)
    os.waitpid(pid, 0); time.sleep(0.01)
@pytest.mark.parametrize("n", range({LEAVING}))
def test_processes(n):
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0: signal.pause()
            os._exit(0)
@many
def test_settings(scratch, n):
    enter_new_userns(); unshare(CLONE_NEWUTS | CLONE_NEWNS)
    with suppress(OSError): Path("/proc/sys/user/max_mnt_namespaces").write_text("5")
    with suppress(OSError): Path("/proc/sys/kernel/hostname").write_text("case")
@many
@pytest.mark.isolated(machine_root=True)
def test_machines_root(scratch, n):
    mount(tmpfs_source(), scratch, "tmpfs"); namespace()
"""


def settings() -> dict[str, str]:
    """Return the machine's settings: name and value."""
    found = {}
    for folder in _SETTINGS:
        for path in sorted(Path("/proc/sys", folder).rglob("*")):
            # What the kernel counts, or makes up anew.
            changing = ("nr", "random", "state", "pid", "last", "pty", "quota", "ns_last")
            if path.is_file() and not any(word in str(path) for word in changing):
                with suppress(OSError):
                    found[str(path)] = path.read_text()
    return found


def processes(mark: str) -> list[str]:
    """Return the processes that have *mark* in their environment."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if mark.encode() in Path(f"/proc/{name}/environ").read_bytes():
                found.append(f"{name} {Path(f'/proc/{name}/comm').read_text().strip()}")
    return found


class Machine:
    """What a run must not change, as it is now; in a mount namespace that nobody else changes."""

    def __init__(self) -> None:
        self._namespaces = None
        with suppress(OSError):
            self._namespaces = Namespaces()
        self._settings = settings()
        self._table = Path("/proc/self/mountinfo").read_text()

    def left(self, pid: int, mark: str, temporary: Path) -> list[str]:
        """Return what is left of the run of pytest process *pid*, when its processes are gone.

        :param mark: what those have in their environment.
        :param temporary: the directory in which they make temporary files.
        """
        until = time.monotonic() + _GONE
        while True:
            found = processes(mark)
            if not found and self._namespaces is not None:
                new = self._namespaces.new()
                found = [f"namespace {key}" for key in new if whose(key) == case_name(pid)]
            if not found or time.monotonic() > until:
                break
            time.sleep(0.02)
        found += [f"file {name}" for name in os.listdir(temporary)]
        table = Path("/proc/self/mountinfo").read_text()
        if table != self._table:
            found.append(f"the table is now {table}")
        now = settings()
        changed = [name for name, value in self._settings.items() if now.get(name) != value]
        return found + [
            f"{name} was {self._settings[name]}, is {now.get(name)}" for name in changed
        ]


class Suite:
    """Runs of CASES, each of which is killed."""

    def __init__(self, folder: Path, *, as_user: bool) -> None:
        self._folder = folder
        self._user = NOBODY if as_user else None
        for name in ("tmp", "base"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        (folder / "test_it.py").write_text(CASES)

    def run(self, machine: Machine, mark: str, number: int, after: float | None) -> float:
        """Start a run, send it *number* *after* so many seconds (None: not at all); look at what is
        left. Return how long it took."""
        begin = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "pytest", *PLUGIN, "-q", "-pno:cacheprovider"),
                f"--basetemp={self._folder / 'base' / mark}",
                "test_it.py",
            ],
            cwd=self._folder,
            user=self._user,
            group=self._user,
            extra_groups=None if self._user is None else [],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "PYTHONDONTWRITEBYTECODE": "1",
                "TMPDIR": str(self._folder / "tmp"),
                _VARIABLE: mark,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if after is not None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(after)
            process.send_signal(number)
        text, _ = process.communicate()
        took = time.monotonic() - begin
        left = machine.left(process.pid, f"{_VARIABLE}={mark}", self._folder / "tmp")
        assert not left, f"after {number} at {after} s: {left}\n{text}"
        # What the processes print that are left behind for a moment.
        assert after is None or number == signal.SIGINT or "Traceback" not in text, text
        if after is None:
            assert f"{LEAVING} errors" in text, text
        return took


@pytest.mark.timeout(120 + 60 * KILLS)
@pytest.mark.parametrize("caller", ["root", "user"])
def test_nothing_is_left_whenever_pytest_is_killed(folder: Path, caller: str) -> None:
    if caller == "user" and os.geteuid() != 0:
        pytest.skip("needs root, to become a user")
    user_namespaces()
    seed = int(os.environ.get("OPEN_TREE_NS_SEED", time.time_ns() % 10**6))
    dice = random.Random(seed)
    numbers = [signal.SIGKILL] * KILLS
    numbers += [signal.SIGTERM, signal.SIGINT] * max(1, KILLS * 2 // 5)
    print(f"OPEN_TREE_NS_SEED={seed}")

    def run() -> None:
        make_reachable([Path(sys.prefix), Path(sys.base_prefix), ROOT])
        machine, suite = Machine(), Suite(folder, as_user=caller == "user")
        took = suite.run(machine, f"{seed}-whole", 0, None)
        print(f"a run takes {took:.1f} s")
        for turn, number in enumerate(numbers):
            after = dice.uniform(0, took)
            print(f"{number.name} after {after:.3f} s", flush=True)
            suite.run(machine, f"{seed}-{turn}", number, after)

    in_child(in_own_mount_ns(run))
