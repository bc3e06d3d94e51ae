# SPDX-License-Identifier: GPL-2.0-only
"""What goes on beside pytest in a complete system."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time

import pytest

from vm.guest import disturb


def disturbed(name: str, *errors: str) -> disturb.Disturber:
    """A disturber after rounds with these results."""
    found = disturb.Disturber(name, lambda: "")
    found.rounds = len(errors)
    found.failures = [error for error in errors if error]
    return found


def test_a_disturber_must_have_worked_and_a_second_suite_must_have_passed() -> None:
    assert disturbed("login").bad
    assert disturbed("login", "no").bad
    assert not disturbed("login", "no", "").bad
    assert disturbed("suite").bad
    assert not disturbed("suite", "", "").bad
    assert disturbed("suite", "1 failed", "").bad


def test_a_disturbers_report_has_what_failed() -> None:
    report = json.loads(disturbed("suite", "", "status 1: 3 failed").report())
    assert report["bad"]
    assert report["text"] == "beside: suite: 2 rounds, 1 failed\nstatus 1: 3 failed"
    assert report["case"]["id"] == "beside/suite"
    assert report["case"]["outcome"] == "failed"
    assert json.loads(disturbed("login", "").report())["bad"] is False


def test_a_command_says_why_it_failed() -> None:
    assert disturb.command("echo seen") == ""
    assert disturb.command("echo seen; exit 3") == "status 3: seen\n"


def test_disturber_goes_on_until_it_is_to_end() -> None:
    seen = []

    def act() -> str:
        seen.append(1)
        if len(seen) == 3:
            found.ending.set()
        return ""

    found = disturb.Disturber("mounts", act)
    found.loop()
    assert found.rounds == 3


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(
    ("number", "text"),
    [(errno.ENOENT, ""), (errno.EPERM, "NS_MNT_GET_NEXT: Operation not permitted")],
)
def test_each_neighbour_is_held_for_a_moment(
    monkeypatch: pytest.MonkeyPatch, number: int, text: str
) -> None:
    asked, held = list[int](), list[int]()
    before = descriptors()

    def ioctl(fd: int, request: int, info: bytearray) -> int:
        # linux/nsfs.h: _IOR(0xb7, 11, struct mnt_ns_info)
        assert (request, len(info)) == (2 << 30 | 16 << 16 | 0xB7 << 8 | 11, 16)
        asked.append(fd)
        if len(asked) == 4:
            raise OSError(number, os.strerror(number))
        return os.open("/proc/self/ns/mnt", os.O_RDONLY)

    def look(seconds: float) -> None:
        assert seconds > 0
        held.append(len(descriptors() - before))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(time, "sleep", look)
    assert (disturb.walk(), len(asked), held) == (text, 4, [1, 1, 1])
    assert descriptors() == before
