# SPDX-License-Identifier: GPL-2.0-only
"""The kernel cases as one program of the kernel's selftests: KTAP, and kselftest's exit statuses.

pytest's own statuses must not get out. To kselftest's runner 2, pytest's for a broken module, is an
expected failure, and 4, pytest's for a mistyped option, is a skip: both would be "ok".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from tests.utils.report import nothing_ran

#: KSFT_PASS, KSFT_FAIL and KSFT_SKIP of tools/testing/selftests/kselftest.h.
PASS, FAIL, SKIP = 0, 1, 4
_CASES = "tests/open_tree_ns"


def status(pytests: int, *, all_skipped: bool) -> int:
    """kselftest's exit status for that of pytest."""
    if all_skipped and pytests in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return SKIP
    return PASS if pytests == pytest.ExitCode.OK else FAIL


def main(options: Sequence[str]) -> int:
    """Run the cases with further *options* of pytest; the exit status."""
    watch = nothing_ran.Watch()
    # The folder comes last: right behind --ktap it would be taken for its file.
    words = ["--ktap", "-p", "no:cacheprovider", *options, _CASES]
    code = pytest.main(words, plugins=[watch])
    return status(int(code), all_skipped=bool(watch.nothing))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
