# SPDX-License-Identifier: GPL-2.0-only
"""A case for each outcome there is."""

from __future__ import annotations

from tests.utils.report.case import Case

CASES = [
    Case("tests/a/test_x.py::test_pass", "passed", duration=0.25),
    Case("tests/a/test_x.py::test_fail[a#b]", "failed", "AssertionError: no", text="E  no"),
    Case("tests/a/test_x.py::T::test_error", "error", "OSError: gone", text="trace"),
    Case("tests/a/test_x.py::test_slow", "timeout", "Timeout (>1 s) in call"),
    Case("tests/a/test_x.py::test_skip", "skipped", "no # feature"),
    Case("tests/a/test_x.py::test_known", "xfailed", "bug 1"),
    Case("tests/a/test_x.py::test_fixed", "xpassed", "bug 2"),
    Case(
        "tests/a/test_x.py::test_strict",
        "failed",
        "[XPASS(strict)] bug 3",
        0,
        "[XPASS(strict)] bug 3",
    ),
]
