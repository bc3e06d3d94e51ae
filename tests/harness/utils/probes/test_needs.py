# SPDX-License-Identifier: GPL-2.0-only
"""What a case asks for must be something that is known, on every kernel."""

from __future__ import annotations

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
