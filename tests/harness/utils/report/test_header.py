# SPDX-License-Identifier: GPL-2.0-only
"""A run begins with what a bug report needs, and a failure ends with how to see it again."""

from __future__ import annotations

import os
import re
import resource
import shlex

import pytest

from tests.harness.helpers.suite import CASE_PLUGINS, HEADER
from tests.utils.report import header

PLUGINS = CASE_PLUGINS
CASES = (
    HEADER
    + """
@pytest.fixture
def breaks():
    yield
    raise OSError(5, "breaks")
@pytest.mark.parametrize("x", [1], ids=["it's a # b"])
@pytest.mark.fixed_by("0febe278ec45", "7.2.11", "a fix")
def test_fails(x): print("said"); assert 0
def test_dies(): os.kill(os.getpid(), signal.SIGKILL)
def test_tear_down(breaks): pass
def test_passes(): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert 0
"""
)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (0, "0 (none)"),
        (1, "1 (P)"),
        (0x1000 | 0x200 | 0x80, "4736 (D W O)"),
        (1 << 18 | 1 << 19, "786432 (N J)"),
        (1 << 40, f"{1 << 40} (bit 40)"),
    ],
)
def test_taint_letters(mask: int, text: str) -> None:
    assert header.taint(mask) == text


def test_the_head_of_a_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test(): pass")
    done = pytester.runpytest_subprocess(*PLUGINS)
    name = os.uname()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    done.stdout.fnmatch_lines_random(
        [
            f"kernel: Linux {name.release} {name.machine}, {name.version}".replace("[", "[[]"),
            "command line: ?*",
            "taint: *",
            "security modules: ?*",
            f"caller: uid {os.getuid()}, euid {os.geteuid()}, effective capabilities * (*)",
            "user namespaces: *",
            "limits: *user.max_mnt_namespaces = *fs.mount-max = *, "
            f"RLIMIT_NOFILE = {soft}/{hard}, RLIMIT_NPROC = */*",
            "probe: *OPEN_TREE_NAMESPACE*",
            "versions: Python 3.*, pytest *, pytest-xdist *, pytest-timeout *",
        ]
    )


def test_nothing_but_the_versions_needs_to_be_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "_read", lambda path: "")
    assert "taint: unreadable" in header.lines()
    assert "user namespaces: no sysctls" in header.lines()


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_a_failure_ends_with_how_to_see_it_again(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytester.makepyfile(test_cases=CASES)
    done = pytester.runpytest_subprocess(*PLUGINS, *workers)
    text = done.stdout.str()
    found = re.findall(r"^-+ reproduce -+\npytest (.*)\n(?=[_=]{9})", text, re.M)
    # Each ends its failure's report, and a shell gives the node id back.
    assert sorted(shlex.split(word)[0] for word in found) == [
        "test_cases.py::test_dies",
        "test_cases.py::test_fails[it's a # b]",
        "test_cases.py::test_tear_down",
    ]
    assert text.count(" reproduce -") == 3
    assert "pytest 'test_cases.py::test_dies'\n" in text
    again = pytester.runpytest_subprocess(*PLUGINS, *shlex.split(max(found, key=len)))
    assert again.parseoutcomes() == {"failed": 1}
