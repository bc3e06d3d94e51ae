# SPDX-License-Identifier: GPL-2.0-only
"""What a case asks for must be something that is known, on every kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness.helpers.suite import CASE_PLUGINS, HEADER

PLUGINS = CASE_PLUGINS


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
@pytest.mark.parametrize("chosen", ["typo", "other"])
def test_a_need_that_nobody_knows_is_an_error_of_usage(
    pytester: pytest.Pytester,
    workers: tuple[str, ...],
    chosen: str,
) -> None:
    """Whether its case is chosen or not, and whatever else the case lacks."""
    source = """
@pytest.mark.needs("expendable kernel", "usr namespace")
def test_typo(): pass
def test_other(): pass
"""
    pytester.makepyfile(test_it=HEADER + source)
    done = pytester.runpytest_subprocess(*PLUGINS, *workers, "-k", chosen)
    text = done.stdout.str() + done.stderr.str()
    broken = pytest.ExitCode.TESTS_FAILED if workers else pytest.ExitCode.USAGE_ERROR
    assert done.ret == broken, text
    assert "test_it.py::test_typo needs 'usr namespace', which is no name of a need" in text
    assert "hint: the names are " in text
    assert "'user namespace'" in text


ASKED = """
import os, pytest, signal
from pathlib import Path
from tests.utils.probes import plugin
from tests.utils.probes.probe import Missing
PYTEST = os.getpid()
def ask(name):
    with open(Path(__file__).with_name("asked"), "a") as file:
        file.write(f"{name} {'pytest' if os.getpid() == PYTEST else os.getpid()}\\n")
    HOW
for name in ("devpts", "FUSE", "Landlock"):
    plugin.NEEDS[name] = lambda name=name: ask(name)
"""
ASKING = """
@pytest.mark.needs("devpts")
def test_first(): pass
@pytest.mark.needs("devpts", "FUSE")
def test_second(): pass
"""


def asked(pytester: pytest.Pytester, how: str) -> tuple[dict[str, int], list[list[str]]]:
    """How two cases end with a probe that does *how*; which needs were asked for, and where."""
    pytester.makeconftest(ASKED.replace("HOW", how))
    pytester.makepyfile(HEADER + ASKING)
    done = pytester.runpytest_subprocess(*PLUGINS)
    lines = (pytester.path / "asked").read_text().splitlines()
    return done.parseoutcomes(), [line.split() for line in lines]


def test_each_need_is_asked_for_once_in_a_process_of_its_own(pytester: pytest.Pytester) -> None:
    outcomes, calls = asked(pytester, "return None")
    assert outcomes == {"passed": 2}
    # Not Landlock, which no case needs.
    assert [name for name, _ in calls] == ["devpts", "FUSE"]
    ((_, one), (_, other)) = calls
    assert one == other != "pytest"
    assert not Path("/proc", one).exists()


@pytest.mark.parametrize("how", ["raise OSError", "os._exit(0)"])
def test_need_that_ends_the_process_is_asked_for_in_pytest(
    pytester: pytest.Pytester, how: str
) -> None:
    outcomes, calls = asked(pytester, f"if os.getpid() != PYTEST: {how}")
    assert outcomes == {"passed": 2}
    assert [name for name, where in calls if where == "pytest"] == ["devpts", "FUSE"]


def test_what_is_missing_skips_the_cases_that_need_it(pytester: pytest.Pytester) -> None:
    outcomes, _ = asked(pytester, "return Missing('no such thing') if name == 'FUSE' else None")
    assert outcomes == {"passed": 1, "skipped": 1}
