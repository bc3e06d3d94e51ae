# SPDX-License-Identifier: GPL-2.0-only
"""What apt is asked for: once for each index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.distro import apt


def test_a_package_index_is_asked_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Reading a large one takes a second, and it is the same until it is fetched again."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked: list[str] = []

    def run(command: list[str], *_: object, **__: object) -> subprocess.CompletedProcess[str]:
        asked.append(command[-1])
        return subprocess.CompletedProcess(command, 0, f"linux-{len(asked)}\n", "")

    monkeypatch.setattr(apt, "_run", run)
    state = apt.Apt("suite", [("http://mirror", "suite", "main")])
    state.update()
    first = state.names("linux")
    assert state.names("linux") == first
    assert apt.Apt("suite", [("http://mirror", "suite", "main")]).names("linux") == first
    assert state.names("other") != first
    assert asked == ["update", "linux", "other"]
    state.update(force=True)
    assert state.names("linux") != first
