# SPDX-License-Identifier: GPL-2.0-only
"""Debian's suites: one that the mirror does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.distro import apt, archive
from vm.errors import Exit, Problem


def test_an_unknown_suite_is_a_usage_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Problem("E: The repository 'http://mirror nosuch Release' does not exist")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(archive, "_site", lambda: "http://mirror")
    monkeypatch.setattr(apt.Apt, "update", refuse)
    with pytest.raises(Problem, match=r"(?s)has no suite nosuch: .*\nhint: ") as caught:
        archive.source("nosuch")
    assert caught.value.status is Exit.USAGE
