# SPDX-License-Identifier: GPL-2.0-only
"""A case that leaves a mount or a mount namespace behind is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.harness.conftest import HEADER, PLUGIN, ROOT, RunCases
from tests.harness.test_isolation_host import user_namespaces
from tests.utils.handover import fds_from_child
from tests.utils.leak_watch import Mounts, Namespaces
from tests.utils.nsfs import current_mnt_ns, ns_id
from tests.utils.process import holding, in_child
from tests.utils.syscalls import mount
from tests.utils.userns import enter_new_mount_ns, in_own_mount_ns

WATCH = ("-p", "tests.utils.leak_watch", "-p", "no:cacheprovider")
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])

# --- mounts ---------------------------------------------------------------------------------------

MOUNTS = """
from tests.utils.constants import CLONE_NEWNS, MNT_DETACH
from tests.utils.syscalls import mount, setns, umount2
@pytest.fixture(scope="session")
def outside():
    fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    yield fd
    os.close(fd)
def test_first(outside): pass
def test_mounts(outside):
    setns(outside, CLONE_NEWNS); mount("tmpfs", "/sys", "tmpfs")
def test_between(scratch): mount("tmpfs", scratch, "tmpfs")
def test_unmounts(outside):
    setns(outside, CLONE_NEWNS); umount2("/sys", MNT_DETACH)
def test_undoes(outside):
    setns(outside, CLONE_NEWNS); mount("tmpfs", "/sys", "tmpfs"); umount2("/sys", MNT_DETACH)
"""


@WORKERS
def test_a_mount_left_with_the_caller_is_told(tmp_path: Path, workers: tuple[str, ...]) -> None:
    """All of it in a mount namespace that is not the machine's."""
    user_namespaces()
    (tmp_path / "test_mounts.py").write_text(HEADER + MOUNTS)
    words = [sys.executable, "-m", "pytest", *PLUGIN, *WATCH, "-rA", *workers, "test_mounts.py"]
    if workers:
        words += ["-k", "not unmounts and not undoes"]  # of what another one does at the same time
    done = subprocess.run(
        words,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=in_own_mount_ns(lambda: None),
        check=False,
        capture_output=True,
        text=True,
    )
    text = done.stdout + done.stderr
    for case in ("mounts",) if workers else ("mounts", "unmounts"):
        line = f"FAILED test_mounts.py::test_{case} - the mounts of the pytest process have"
        assert line in text, text
    assert " / /sys rw,relatime - tmpfs tmpfs" in text
    if workers:
        assert "a case of another worker" in text
    else:
        for case in ("first", "between", "undoes"):
            assert f"PASSED test_mounts.py::test_{case}\n" in text, text


def test_only_changes_are_read_and_told() -> None:
    user_namespaces()

    def changes() -> list[list[str]]:
        mounts = Mounts()
        read = Mounts._read
        found = [mounts.changes()]
        mount("tmpfs", "/sys", "tmpfs")
        found.append(mounts.changes())
        Mounts._read = lambda self: pytest.fail("read without a need")  # type: ignore[method-assign]
        found.append(mounts.changes())
        Mounts._read = read  # type: ignore[method-assign]
        return found

    before, after, again = in_child(in_own_mount_ns(changes))
    assert (before, again) == ([], [])
    (line,) = after
    assert line.startswith("+ ")
    assert " /sys " in line


# --- mount namespaces -----------------------------------------------------------------------------


@pytest.fixture
def sight() -> None:
    """Skip where the caller may not see the machine's namespaces."""
    try:
        Namespaces().close()
    except OSError as error:
        pytest.skip(f"the machine's mount namespaces cannot be listed: {error}")


#: A namespace of a child that ends, as a descriptor; its id is noted.
NAMESPACES = """
import socket
from tests.utils.handover import fds_from_child
from tests.utils.nsfs import ns_id, current_mnt_ns
from tests.utils.userns import enter_new_mount_ns
def namespace(name):
    def make():
        enter_new_mount_ns()
        return [current_mnt_ns()]
    (fd,) = fds_from_child(make)
    with open(name, "w") as file: file.write(str(ns_id(fd)))
    return fd
"""


def note(path: Path) -> str:
    return (path / "id").read_text()


@pytest.mark.usefixtures("sight")
def test_a_namespace_held_outside_is_told(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    done = run_cases(
        NAMESPACES
        + f"""
@pytest.fixture(scope="session")
def queue():
    # Nobody reads: what is sent stays in the queue.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ours
    ours.close(); theirs.close()
def test_first(queue): pass
def test_leaves(queue): socket.send_fds(queue, [b"fd"], [namespace({str(pytester.path / "id")!r})])
def test_next(): pass
def test_lets_go(): namespace({str(pytester.path / "other")!r})
""",
        *WATCH,
    )
    number = note(pytester.path)
    report = done.report("test_leaves")
    assert "mount namespace" in report.longreprtext
    text = dict(report.sections)["left behind"]
    assert f"mount namespace {number}, held by nothing that /proc shows" in text
    # Other runs on this machine have namespaces too: what counts is whose this one is.
    others = [str(one.sections) for one in done.reports if not one.nodeid.endswith("leaves")]
    assert not any(number in text for text in others)
    assert not any((pytester.path / "other").read_text() in text for text in others)


@pytest.mark.usefixtures("sight")
def test_who_holds_it_is_named(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    done = run_cases(
        NAMESPACES
        + f"""
@pytest.fixture(scope="session")
def keeper():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        ours.close()
        kept = socket.recv_fds(theirs, 16, 1)
        theirs.send(b"got it")
        signal.pause()
    yield ours
    os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
    ours.close(); theirs.close()
def test_leaves(keeper):
    socket.send_fds(keeper, [b"fd"], [namespace({str(pytester.path / "id")!r})])
    keeper.recv(16)
""",
        *WATCH,
    )
    text = dict(done.report("test_leaves").sections)["left behind"]
    assert f"mount namespace {note(pytester.path)}, held by descriptor " in text


@pytest.mark.usefixtures("sight")
def test_a_namespace_that_a_process_lives_in_is_the_machines() -> None:
    namespaces = Namespaces()
    with holding(enter_new_mount_ns) as process:
        fd = os.open(process.proc("ns/mnt"), os.O_RDONLY)
        number = ns_id(fd)
        assert number in namespaces._younger()
        assert number not in namespaces.left()
    # Held by a descriptor alone now, and no more a case's than before.
    assert number in namespaces._younger()
    assert number not in namespaces.left()
    os.close(fd)
    namespaces.close()


@pytest.mark.usefixtures("sight")
def test_a_namespace_that_is_let_go_of_late_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    namespaces = Namespaces()
    (fd,) = fds_from_child(in_own_mount_ns(lambda: [current_mnt_ns()]))
    number = ns_id(fd)
    fds = [fd]

    def wait(_seconds: float) -> None:
        while fds:
            os.close(fds.pop())

    monkeypatch.setattr(time, "sleep", wait)
    assert number not in namespaces.left()
    assert not fds
    namespaces.close()


@pytest.mark.usefixtures("sight")
def test_a_run_in_workers_tells_at_its_end(run_cases: RunCases, pytester: pytest.Pytester) -> None:
    address = str(pytester.path / "socket")
    # What is sent stays in the queue of a connection that nobody accepts.
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(address)
        server.listen()
        done = run_cases(
            NAMESPACES
            + f"""
def test_leaves():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect({address!r})
        socket.send_fds(client, [b"fd"], [namespace({str(pytester.path / "id")!r})])
def test_next(): pass
""",
            *WATCH,
            "-n",
            "2",
        )
    assert done.ret == 1
    (report,) = (one for one in done.reports if one.failed)
    assert report.nodeid == "session"
    assert "a run without -n tells by which" in report.longreprtext
    text = dict(report.sections)["left behind"]
    assert f"mount namespace {note(pytester.path)}, held by " in text
