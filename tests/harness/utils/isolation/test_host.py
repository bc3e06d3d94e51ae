# SPDX-License-Identifier: GPL-2.0-only
"""What a case is given, whoever runs it, and that nothing of it reaches the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.helpers.callers import become_nobody, forbid_namespaces, user_namespaces
from tests.harness.helpers.machine import children, picture
from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT, RunCases
from tests.utils.isolation import sandbox
from tests.utils.tasks.userns import enter_new_userns

#: Cases that do to their surroundings what they can, without regard for success.
VANDALS = """
from contextlib import suppress
from tests.utils.uapi import syscalls
from tests.utils.uapi import constants as c
def test_mounts(scratch):
    for place in ("/", "/tmp", "/proc", str(scratch)):
        with suppress(OSError): syscalls.mount("tmpfs", place, "tmpfs")
def test_unmounts():
    for line in reversed(open("/proc/self/mountinfo").readlines()):
        with suppress(OSError): syscalls.umount2(line.split()[4], c.MNT_DETACH)
def test_namespaces():
    for kind in c.Clone:
        with suppress(OSError): syscalls.unshare(kind)
def test_credentials():
    os.umask(0o777); os.nice(1)
    with suppress(OSError): os.setgroups([1])
    with suppress(OSError): os.setresgid(1, 1, 1)
    with suppress(OSError): os.setresuid(1, 1, 1)
def test_root(scratch): os.chroot(scratch); os.chdir("/")
def test_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
def test_descriptors():
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError): os.set_blocking(int(name), True)
def test_leaves():
    if os.fork() == 0: signal.pause()
def test_dies(): os.kill(os.getpid(), 9)
"""


def test_the_machine_and_this_process_stay_as_they_are(run_cases: RunCases) -> None:
    run_cases(VANDALS)  # what is opened once is open now
    before, had = picture(), children()
    run = run_cases(VANDALS)
    assert [case for case, when, outcome in run.outcomes() if outcome == "failed"] == [
        "test_leaves",
        "test_dies",
    ], run.text
    assert picture() == before
    assert children() == had


def test_this_process_stays_as_it_is_between_cases(
    run_cases: RunCases, pytester: pytest.Pytester, tmp_path: Path
) -> None:
    note = tmp_path / "note"
    pytester.makeconftest(f"""
from tests.harness.helpers.machine import picture
first = {{}}
def pytest_collection_finish(): first.update(picture())
def pytest_runtest_logfinish():
    now = picture()
    # The isolation has descriptors of its own meanwhile.
    now["descriptors"] = {{fd: now["descriptors"].get(fd) for fd in first["descriptors"]}}
    if now != first: open({str(note)!r}, "w").write(f"{{first}} {{now}}")
""")
    run_cases(VANDALS)
    assert not note.exists(), note.read_text()


GIVEN = """
def mount_points():
    return [line.split()[4] for line in open("/proc/self/mountinfo")]
def test_scratch(scratch):
    assert os.listdir(scratch) == []
    assert mount_points()[-1] == str(scratch)
    (scratch / "file").write_text("text")
def test_scratch_is_new(scratch):
    assert os.listdir(scratch) == []
    assert "shared:" not in open("/proc/self/mountinfo").read()
def test_processes():
    assert os.getpid() > 1
    assert set(filter(str.isdecimal, os.listdir("/proc"))) == {"1", str(os.getpid())}
    assert os.readlink("/proc/self") == str(os.getpid())
    assert os.getsid(0) == os.getpid()
def test_root_of_its_namespace(): assert os.geteuid() == 0
"""


def test_what_a_case_is_given(run_cases: RunCases) -> None:
    facts = sandbox.facts()
    if facts.missing:
        pytest.skip(facts.reason)
    assert run_cases(GIVEN).ret == 0


LOST_SOURCES = """
import shutil
def helper(value):
    raise OSError(5, "from a helper")
def test_chroot(scratch):
    os.chroot(scratch); os.chdir("/")
    value = {"a": [1, 2]}
    assert value == {"a": [1, 3]}
def test_helper(scratch):
    os.chroot(scratch); os.chdir("/")
    helper(1)
def test_cwd_gone(scratch):
    (scratch / "gone").mkdir(); os.chdir(scratch / "gone"); (scratch / "gone").rmdir()
    assert "one\\ntwo" == "one\\nthree"
"""


def test_sources_are_quoted_without_a_file_system(
    run_cases: RunCases, pytester: pytest.Pytester
) -> None:
    facts = sandbox.facts()
    if facts.scratch is None:
        pytest.skip(facts.reason)
    run_cases(LOST_SOURCES, "--collect-only")
    # A process of its own: nothing is in the caches.
    done = pytester.runpytest_subprocess(*PLUGIN, "-vv", "--showlocals", "--color=yes")
    done.assert_outcomes(failed=3)
    text = pytester.runpytest_subprocess(*PLUGIN, "-vv", "--showlocals").stdout
    text.fnmatch_lines(
        [
            "    def test_chroot(scratch):",
            ">*assert value == {?a?: ?1, 3?}",
            "E*AssertionError: assert {?a?: ?1, 2?} == {?a?: ?1, 3?}",
            "value *= {?a?: ?1, 2?}",
            "*test_sources*py:11: AssertionError",
            "    def test_helper(scratch):",
            ">       helper(1)",
            "    def helper(value):",
            ">*raise OSError(5, *from a helper*)",
            "E*OSError: [[]Errno 5] from a helper",
            "    def test_cwd_gone(scratch):",
            "E*AssertionError: assert *",
        ]
    )


# --- other callers --------------------------------------------------------------------------------


def run_as(become: Callable[[], None] | None, folder: Path, source: str) -> str:
    """What pytest prints about the cases in *source*, run by another caller."""
    module = folder / "test_cases.py"
    module.write_text(HEADER + source)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            *PLUGIN,
            "-rA",
            "-p",
            "no:cacheprovider",
            f"--basetemp={folder}/base",
            str(module),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=folder,
        check=False,
        preexec_fn=become,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.stdout


DEATHS = """
def test_dies(): print("last words"); os.kill(os.getpid(), 9)
@pytest.mark.timeout(1)
def test_hangs():
    if os.fork() == 0: signal.pause()
    signal.pause()
def test_leaves():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0: signal.pause()
        os._exit(0)
"""


def test_an_unprivileged_caller_gets_the_same(folder: Path) -> None:
    user_namespaces()
    pytest.importorskip("pytest_timeout")
    needed = [Path(sys.prefix), Path(sys.base_prefix), ROOT]
    become = (lambda: become_nobody(needed)) if os.geteuid() == 0 else None
    text = run_as(become, folder, GIVEN + DEATHS)
    for case in ("scratch", "scratch_is_new", "processes", "root_of_its_namespace", "leaves"):
        assert f"PASSED test_cases.py::test_{case}\n" in text, text
    assert "FAILED test_cases.py::test_dies - killed by SIGKILL in call" in text
    assert "last words" in text
    assert "FAILED test_cases.py::test_hangs - Timeout (>1 s) in call" in text
    assert "ERROR test_cases.py::test_leaves - Failed: the case left processes" in text
    assert "2 failed, 5 passed, 1 error" in text


def test_the_root_of_a_user_namespace_gets_the_same(folder: Path) -> None:
    """As of ``unshare --map-root-user``: privileged, but not over its PID namespace."""
    user_namespaces()
    text = run_as(enter_new_userns, folder, GIVEN)
    assert "4 passed" in text, text


def test_without_namespaces_cases_still_run_apart(folder: Path) -> None:
    user_namespaces()
    pytest.importorskip("pytest_timeout")
    source = "def test_passes(): pass\ndef test_scratch(scratch): pass\n"
    text = run_as(forbid_namespaces, folder, source + DEATHS)
    assert "PASSED test_cases.py::test_passes" in text, text
    assert "No mount namespace of one's own" in text
    assert "FAILED test_cases.py::test_dies - killed by SIGKILL in call" in text
    assert "FAILED test_cases.py::test_hangs - Timeout (>1 s) in call" in text
    assert "ERROR test_cases.py::test_leaves - Failed: the case left processes" in text
    assert "2 failed, 2 passed, 1 skipped, 1 error" in text
    # Killed is not only said.
    left = subprocess.run(["pgrep", "-f", str(folder)], check=False, capture_output=True)
    assert left.stdout == b""


@pytest.mark.parametrize("directory", [Path("/mnt"), Path("/mnt/below")])
def test_scratch_hides_nothing_that_is_needed(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "_needed", lambda: [directory])
    found = sandbox._on_machines_root(sandbox.Facts(mount_namespace=True))
    assert found.scratch != Path("/mnt")
