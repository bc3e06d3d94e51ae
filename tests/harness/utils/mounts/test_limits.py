# SPDX-License-Identifier: GPL-2.0-only
"""fs.mount-max, with a file in its place: set, put back, and one run's at a time."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from tests.utils.mounts import limits
from tests.utils.mounts.limits import mount_max


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file, and a name for turns that nobody else has."""
    path = tmp_path / "mount-max"
    path.write_text("100000")
    monkeypatch.setattr(limits, "_MOUNT_MAX", path)
    monkeypatch.setattr(limits, "_TURN", f"\0{tmp_path}")
    return path


def fail_when_set(setting: Path) -> None:
    with mount_max() as set_mount_max:
        set_mount_max(123456)
        assert setting.read_text() == "123456"
        raise ZeroDivisionError


def test_it_is_as_before_whatever_happens(setting: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail_when_set(setting)
    assert setting.read_text() == "100000"


def test_others_wait_for_their_turn(setting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_TURN_TIMEOUT", 0.1)
    with mount_max():
        with pytest.raises(OSError, match="in use") as caught, mount_max():
            pytest.fail("two have it at once")
        assert caught.value.errno == errno.EADDRINUSE
    with mount_max() as set_mount_max:
        set_mount_max(654321)
    assert setting.read_text() == "100000"
