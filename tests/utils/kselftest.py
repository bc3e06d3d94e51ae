# SPDX-License-Identifier: GPL-2.0-only
"""The kernel cases as one program of the kernel's selftests: KTAP, and kselftest's exit statuses.

pytest's own statuses must not get out. To kselftest's runner 2, pytest's for a broken module, is an
expected failure, and 4, pytest's for a mistyped option, is a skip: both would be "ok".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

#: KSFT_PASS, KSFT_FAIL and KSFT_SKIP of tools/testing/selftests/kselftest.h.
PASS, FAIL, SKIP = 0, 1, 4
_CASES = "tests/open_tree_ns"


class _Seen:
    """A pytest plugin that notes whether there were skips, and whether anything ran."""

    def __init__(self) -> None:
        self.skipped = self.ran = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one report into account."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped = True
        elif report.when == "call" or hasattr(report, "wasxfail"):
            self.ran = True


def status(pytests: int, *, all_skipped: bool) -> int:
    """kselftest's exit status for that of pytest."""
    if pytests != pytest.ExitCode.OK:
        return FAIL
    return SKIP if all_skipped else PASS


def main(options: Sequence[str]) -> int:
    """Run the cases with further *options* of pytest; the exit status."""
    seen = _Seen()
    # The folder comes last: right behind --ktap it would be taken for its file.
    words = ["--ktap", "-p", "no:cacheprovider", *options, _CASES]
    code = pytest.main(words, plugins=[seen])
    return status(int(code), all_skipped=seen.skipped and not seen.ran)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
