# SPDX-License-Identifier: GPL-2.0-only
"""Forks without what Python does about them, and children that run a function or sit still."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT
from tests.utils.tasks import process
from tests.utils.tasks.process import (
    ChildError,
    ChildKilled,
    clone3,
    ended,
    holding,
    in_child,
    in_clone3,
)
from tests.utils.uapi.constants import CLONE_FS, CLONE_NEWNS, CLONE_PIDFD
from tests.utils.uapi.syscalls import closing_fd

#: What is asked of kernel and machine before a case, and what a case itself may do.
WORKER = f"""{HEADER}
from tests.utils.tasks.process import holding, in_child, started
from tests.utils.probes.plugin import NEEDS

@pytest.mark.parametrize("number", range(2))
class Test:
    def test_needs(self, number):
        for ask in NEEDS.values():
            ask()
    def test_children(self, number):
        import threading
        stop = threading.Event()
        thread = threading.Thread(target=stop.wait)
        thread.start()
        with holding(os.getpid), started(os.getpid) as task:
            assert in_child(os.getppid) == os.getpid() != task.result()
        stop.set()
        thread.join()
""".replace("pytestmark", "unmarked")
HOOK = """
import os, resource, sys, threading, warnings
from tests.utils.tasks.process import fork

hooks = []
os.register_at_fork(after_in_child=lambda: hooks.append(1))

def forked():
    pid = fork()
    if pid == 0:
        threading.Thread(target=lambda: None).start()  # its locks are free
        os._exit(10 + len(hooks))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) - 10
"""


def run(program: str) -> str:
    """What a Python of its own, with one thread, prints."""
    done = subprocess.run(
        [sys.executable, "-c", HOOK + program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_what_is_registered_is_left_out() -> None:
    assert run("print(forked(), forked())") == "0 0"


def test_with_another_thread_it_is_pythons_own_without_the_warning() -> None:
    program = """
warnings.simplefilter("always")  # Python 3.12 and newer have one for this
stop = threading.Event()
thread = threading.Thread(target=stop.wait)
thread.start()
print(forked())
stop.set()
thread.join()
print(forked())
"""
    assert run(program).split() == ["1", "0"]


@pytest.mark.parametrize("action", ["always", "error"])
def test_a_worker_that_asks_in_children_gives_no_warning(
    pytester: pytest.Pytester, action: str
) -> None:
    pytester.makepyfile(WORKER)
    plugins = (
        *PLUGIN,
        "-p",
        "tests.utils.probes.plugin",
        "-p",
        "tests.utils.report.markers",
        "-p",
        "no:cacheprovider",
    )
    done = pytester.runpytest_subprocess(*plugins, "-n", "2", "-W", action)
    assert done.parseoutcomes() == {"passed": 4}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become one who is limited")
def test_an_error_has_its_errno() -> None:
    program = """
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setresuid(65534, 65534, 65534)
try:
    fork()
except OSError as error:
    print(error.errno, error.strerror)
"""
    assert run(program) == f"{errno.EAGAIN} {os.strerror(errno.EAGAIN)}"


def test_a_cloned_child_ends_as_a_forked_one() -> None:
    """What a child of clone3(2) returns or raises comes back, and a refused call is the caller's
    own error."""

    def fail() -> None:
        raise OSError(errno.ENOTTY, "no terminal", "/x")

    assert in_clone3(0, os.getppid) == os.getpid()
    with pytest.raises(OSError, match="no terminal") as caught:
        in_clone3(0, fail)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOTTY, "/x")
    with pytest.raises(OSError, match="clone3") as caught:
        in_clone3(CLONE_NEWNS | CLONE_FS, os.getpid)
    assert caught.value.errno == errno.EINVAL


def test_a_cloned_child_has_a_pidfd_when_asked() -> None:
    """With CLONE_PIDFD the child's pidfd is stored where the caller says."""
    pidfd = ctypes.c_int(-1)
    pid = clone3(CLONE_PIDFD, pidfd)
    if pid == 0:
        os._exit(7)
    ended_in_time = ended(pidfd.value, 10)
    status = os.waitpid(pid, 0)[1]
    assert (ended_in_time, os.waitstatus_to_exitcode(status)) == (True, 7)
    os.close(pidfd.value)


def test_what_a_holding_child_fails_with_is_raised_before_the_block() -> None:
    with pytest.raises(FileNotFoundError), holding(lambda: os.stat("/no/such")):
        pytest.fail("entered")
    with pytest.raises(ChildError, match="ZeroDivisionError"), holding(lambda: 1 / 0):
        pytest.fail("entered")
    with pytest.raises(ChildKilled), holding(lambda: os.kill(os.getpid(), signal.SIGKILL)):
        pytest.fail("entered")


def test_a_holding_child_sits_still_and_is_gone_after_the_block(tmp_path: Path) -> None:
    with holding((tmp_path / "made").touch) as child:
        assert (tmp_path / "made").exists()
        assert not child.finished(0.1)
        proc = Path(child.proc("status"))
        assert proc.exists()
    assert not proc.exists()


def test_a_holding_child_ends_with_the_caller() -> None:
    """Killed, the caller runs no clean-up: what it held must not stay for ever."""
    read_end, write_end = os.pipe()

    def caller() -> None:
        with holding(lambda: None) as child:
            os.write(write_end, str(child.pid).encode())
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ChildKilled):
        in_child(caller)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:  # ends with the last process that has it open
        pid = int(pipe.read())
    # Its descriptors are closed some time before it counts as dead.
    with suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        with closing_fd(pidfd):
            assert ended(pidfd, 10)


@pytest.mark.parametrize("threads", [0, 1])
def test_what_follows_a_fork_follows_in_both(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("_thread._count", lambda: threads)
    callers: list[int] = []
    monkeypatch.setattr(process, "after_fork", [lambda: callers.append(os.getpid())])
    in_the_child = in_child(lambda: [*callers, os.getpid()])
    assert callers == [os.getpid()]
    assert in_the_child == [in_the_child[-1]] * 2
