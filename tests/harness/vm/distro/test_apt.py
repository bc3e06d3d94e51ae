# SPDX-License-Identifier: GPL-2.0-only
"""What apt is asked for: once for each index."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from vm.distro import apt
from vm.errors import Problem
from vm.kernel import debian


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


@pytest.mark.parametrize(
    "words",
    [
        "W: GPG error: http://mirror sid InRelease: NO_PUBKEY 0E98\n"
        "E: The repository 'http://mirror sid InRelease' is not signed.\n",
        "E: The following signatures couldn't be verified ...\n",
    ],
)
def test_a_keyring_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(apt, "_KEYRINGS", tmp_path)
    monkeypatch.setattr(apt, "distribution", lambda: ("debian", "trixie"))
    failed = subprocess.CompletedProcess[str]([], 100, "", words)
    monkeypatch.setattr(apt, "output", lambda *_: failed)
    state = apt.Apt("suite", [("http://mirror", "suite", "main")])
    keyring = tmp_path / "debian-archive-keyring.gpg"
    with pytest.raises(apt.Unreachable) as caught:
        state.update()
    first, second = str(caught.value).splitlines()
    assert first == f"no {keyring}, to check the mirror's signatures with"
    assert second == "hint: install the package debian-archive-keyring"
    with pytest.raises(
        Problem, match=r"cannot fetch .*: no .*keyring.*\nhint: install the package"
    ):
        debian.get(debian.Spec("suite"))
    keyring.touch()  # with it, they are wrong
    with pytest.raises(Problem, match=r"^E: ") as caught_too:
        state.update()
    assert not isinstance(caught_too.value, apt.Unreachable)
