# SPDX-License-Identifier: GPL-2.0-only
"""The cases as a program of the kernel's selftests: what its runner gets to see."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.suite import ROOT
from tests.open_tree_ns import kselftest

SCRIPT = ROOT / "tests/open_tree_ns/run_open_tree_ns.sh"
#: A python3 that answers each question as its environment says, and records what it is to run.
FAKE = """#!/bin/sh
case "$2" in
*version_info*) exit "${OLD:-0}" ;;
*import\\ pytest*) exit "${BARE:-0}" ;;
esac
echo "in $PWD: $*"
exit "${STATUS:-0}"
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A PATH with a fake python3 and what else the script needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    dirname = shutil.which("dirname")
    assert dirname is not None
    (folder / "dirname").symlink_to(dirname)
    (folder / "python3").write_text(FAKE)
    (folder / "python3").chmod(0o755)
    return folder


def run(programs: Path, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run the script with only *programs* on its PATH, from another folder."""
    return subprocess.run(
        [str(SCRIPT), *words],
        cwd=programs,
        env={"PATH": str(programs), **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_from_anywhere_and_passes_options_on(programs: Path) -> None:
    done = run(programs, "-k", "a or b", STATUS="1")
    assert done.stdout == f"in {ROOT}: -m tests.open_tree_ns.kselftest -k a or b\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"OLD": "1"}, "python3 is older than 3.11"), ({"BARE": "1"}, "python3 has no pytest")],
    ids=["old", "bare"],
)
def test_an_unfit_python_is_a_skip(programs: Path, settings: dict[str, str], reason: str) -> None:
    done = run(programs, **settings)
    assert done.stdout == f"TAP version 13\n1..0 # SKIP {reason}\n"
    assert done.returncode == kselftest.SKIP


def test_no_python_is_a_skip(programs: Path) -> None:
    (programs / "python3").unlink()
    done = run(programs)
    assert done.stdout == "TAP version 13\n1..0 # SKIP python3 is not installed\n"
    assert done.returncode == kselftest.SKIP
    assert done.stderr == ""


@pytest.mark.parametrize("code", [*pytest.ExitCode, 6])
def test_no_status_of_pytest_gets_out(code: int) -> None:
    wanted = kselftest.PASS if code == pytest.ExitCode.OK else kselftest.FAIL
    assert kselftest.status(code, all_skipped=False) == wanted
    nothing = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    wanted = kselftest.SKIP if nothing else kselftest.FAIL
    assert kselftest.status(code, all_skipped=True) == wanted


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A checkout with the reporters, and with cases yet to be written."""
    cases = tmp_path / "tests/open_tree_ns"
    cases.mkdir(parents=True)
    for name in ("__init__.py", "utils"):
        (tmp_path / "tests" / name).symlink_to(ROOT / "tests" / name)
    for file in (SCRIPT, *(SCRIPT.with_name(name) for name in ("__init__.py", "kselftest.py"))):
        shutil.copy(file, cases)
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.utils.isolation.plugin", "tests.utils.report.ktap_plugin",'
        ' "tests.utils.report.nothing_ran"]\n'
    )
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\nxfail_strict = true\n")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return tmp_path


def command(suite: Path, source: str) -> tuple[list[str], dict[str, str]]:
    """The command line and environment that run *source* as the only module of *suite*."""
    module = suite / "tests/open_tree_ns/test_it.py"
    module.write_text(f"import pytest, time\n{source}\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PY")}
    path = f"{suite / 'bin'}:{os.environ['PATH']}"
    return [str(module.with_name(SCRIPT.name))], {**kept, "PATH": path}


@pytest.mark.parametrize(
    ("source", "status"),
    [
        ("def test(): pass\ndef test_skip(): pytest.skip('no')", 0),
        ("@pytest.mark.xfail\ndef test(): assert 0\ndef test_skip(): pytest.skip('no')", 0),
        ("def test(): assert 0", 1),
        ("@pytest.mark.isolated\ndef test(): pytest.skip('no')", 4),
        ("def test(: broken", 1),
        ("def test(): pytest.exit('enough')", 1),
        ("", 1),
    ],
    ids=["pass", "xfail", "fail", "skips", "broken", "exit", "empty"],
)
def test_the_status_is_kselftests(suite: Path, source: str, status: int) -> None:
    words, environment = command(suite, source)
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.startswith("TAP version 13\n1..")
    assert "# Totals: " in done.stdout


def test_a_mistyped_option_is_a_failure(suite: Path) -> None:
    words, environment = command(suite, "def test(): pass")
    done = subprocess.run([*words, "--no-such"], env=environment, capture_output=True, check=False)
    assert done.returncode == kselftest.FAIL


def test_the_time_limits_signal_ends_it(suite: Path) -> None:
    words, environment = command(
        suite,
        "def test_one(): pass\n@pytest.mark.isolated\ndef test_two(): time.sleep(3600)",
    )
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            # The script's process number is pytest's: kselftest's runner signals no other.
            if line.startswith("ok 1 "):
                process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM


def test_the_runner_grants_the_time_it_takes() -> None:
    assert SCRIPT.with_name("settings").read_text() == "timeout=300\n"
