# SPDX-License-Identifier: GPL-2.0-only
"""Users who have no home, or none that they can write to: random uids of containers."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.utils.tasks.process import in_child
from vm.commands.main import main
from vm.errors import Exit

UNKNOWN = 54321


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(
    ("home", "line"),
    [
        (None, f"this user, {UNKNOWN}, has no home folder"),
        ("/", r"/\.(cache|local)\S*: Permission denied"),
        ("/proc", r"/proc/\.(cache|local)\S*: No such file or directory"),
    ],
)
@pytest.mark.parametrize("verb", [["kernels"], ["run", "--kernel", "debian"]], ids=lambda v: v[0])
def test_a_user_without_a_home_is_told_which_variables_to_set(
    capfd: pytest.CaptureFixture[str], home: str | None, line: str, verb: list[str]
) -> None:
    def run() -> int:
        os.setgroups([])
        os.setresgid(UNKNOWN, UNKNOWN, UNKNOWN)
        os.setresuid(UNKNOWN, UNKNOWN, UNKNOWN)
        for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
            os.environ.pop(name, None)
        if home is not None:
            os.environ["HOME"] = home
        return main(verb)

    assert in_child(run) == Exit.HOST
    first, second = capfd.readouterr().err.splitlines()
    assert re.match(f"vm: {line}", first)
    assert second.startswith("hint: set XDG_CACHE_HOME and XDG_STATE_HOME")


def test_a_home_that_nobody_has_is_no_kernel(capsys: pytest.CaptureFixture[str]) -> None:
    path = "~no-such-user-54321/linux"
    assert not Path(os.path.expanduser(path)).exists()
    assert main(["run", "--kernel", path]) == Exit.HOST
    assert capsys.readouterr().err.startswith(f"vm: {path}: No such file or directory")
