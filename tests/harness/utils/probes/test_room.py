# SPDX-License-Identifier: GPL-2.0-only
"""A case that the machine has no room for is skipped with the figures; one it has room for runs."""

from __future__ import annotations

import resource
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.harness.helpers.suite import CASE_PLUGINS, HEADER
from tests.utils.mounts.limits import MAX_MNT_NAMESPACES
from tests.utils.probes import namespaces, room, sysctl
from tests.utils.tasks.process import in_child
from tests.utils.tasks.userns import enter_new_userns

PLUGINS = CASE_PLUGINS
CASES = f"""{HEADER}
import resource
@pytest.mark.room(descriptors=100)
def test_many(): assert resource.getrlimit(resource.RLIMIT_NOFILE) == (HARD, HARD)
def test_few(): assert resource.getrlimit(resource.RLIMIT_NOFILE) == (64, HARD)
@pytest.mark.room(descriptors=64, mounts=10**9)
@pytest.mark.room(mounts=5)
def test_mounts(): pass
"""


def lacking_in_userns(limit: int, count: int) -> str:
    """What is lacking in a user namespace that may have *limit* mount namespaces."""
    if (missing := namespaces.userns_missing()) is not None:
        pytest.skip(missing.reason)

    def ask() -> str:
        enter_new_userns()
        MAX_MNT_NAMESPACES.write_text(str(limit))
        return room.lacking({"mount_namespaces": count})

    return in_child(ask)


@pytest.mark.parametrize("limit", [0, 1, 2, 6])
def test_mount_namespaces_are_counted_by_trying(limit: int) -> None:
    assert lacking_in_userns(limit, limit) == ""
    assert lacking_in_userns(limit, limit + 1) == (
        f"needs room for {limit + 1} mount namespaces, and has room for {limit}: "
        f"user.max_mnt_namespaces is {limit}; sysctl user.max_mnt_namespaces=10000 allows it"
    )


@pytest.mark.parametrize("limit", [0, 3])
def test_user_namespaces_are_counted_by_trying(limit: int) -> None:
    if (missing := namespaces.userns_missing()) is not None:
        pytest.skip(missing.reason)

    def ask(count: int) -> str:
        enter_new_userns()
        Path("/proc/sys/user/max_user_namespaces").write_text(str(limit))
        return room.lacking({"user_namespaces": count})

    assert in_child(partial(ask, limit)) == ""
    assert in_child(partial(ask, limit + 1)) == (
        f"needs room for {limit + 1} user namespaces, and has room for {limit}: "
        f"user.max_user_namespaces is {limit}; sysctl user.max_user_namespaces=10000 allows it"
    )


def test_mounts_are_counted_with_those_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, own = tmp_path / "sys/fs/mount-max", tmp_path / "mountinfo"
    limit.parent.mkdir(parents=True)
    limit.write_text("100\n")
    own.write_text("a mount\n" * 40)
    monkeypatch.setattr(sysctl, "PROC", tmp_path)
    monkeypatch.setattr(room, "_OWN_MOUNTS", own)
    assert room.lacking({"mounts": 60}) == ""
    assert room.lacking({"mounts": 61}) == (
        "needs room for 61 mounts in a namespace besides the 40 it begins with: fs.mount-max is "
        "100; sysctl fs.mount-max=100000 allows it"
    )
    # Unreadable: nothing is known against it.
    limit.unlink()
    assert room.lacking({"mounts": 62}) == ""


def test_descriptors_are_those_of_the_hard_limit() -> None:
    def ask(hard: int) -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 50), hard))
        return room.lacking({"descriptors": 100})

    asked: Callable[[int], str] = lambda hard: in_child(partial(ask, hard))  # noqa: E731
    assert asked(100) == ""
    assert asked(99) == (
        "needs room for 100 file descriptors: the hard limit (RLIMIT_NOFILE) is 99; ulimit -n 100 "
        "by root allows it"
    )


def test_a_full_table_of_descriptors_is_not_taken_for_the_limit_of_namespaces() -> None:
    def ask() -> str:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        return room.lacking({"mount_namespaces": 100})

    assert in_child(ask) == ""


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
@pytest.mark.parametrize("hard", [64, 128])
def test_a_case_gets_what_it_asks_for_or_is_skipped(
    pytester: pytest.Pytester,
    workers: tuple[str, ...],
    hard: int,
) -> None:
    pytester.makepyfile(test_it=CASES.replace("HARD", str(hard)))
    command = ["sh", "-c", f'ulimit -Sn 64; ulimit -Hn {hard}; exec "$@"', "sh"]
    done = pytester.run(*command, *pytester._getpytestargs(), *PLUGINS, "-rs", *workers)
    many = {"passed": 2, "skipped": 1} if hard > 64 else {"passed": 1, "skipped": 2}
    assert done.parseoutcomes() == many
    text = done.stdout.str()
    assert "needs room for 1000000000 mounts in a namespace besides the " in text
    assert ("needs room for 100 file descriptors: " in text) == (hard == 64)


def test_room_is_asked_for_before_features_whose_probes_take_some(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        """
from tests.utils.probes import plugin
from tests.utils.probes.probe import Missing
plugin.NEEDS["devpts"] = lambda: Missing("refused for want of room", broken=True)
"""
    )
    source = """
@pytest.mark.needs("devpts")
@pytest.mark.room(mounts=10**9)
def test_mounts(): pass
"""
    pytester.makepyfile(HEADER + source)
    done = pytester.runpytest_subprocess(*PLUGINS)
    assert done.parseoutcomes() == {"skipped": 1}


def test_require_makes_a_failure_of_it(pytester: pytest.Pytester) -> None:
    source = "@pytest.mark.room(mounts=10**9)\ndef test_mounts(): pass\n"
    pytester.makepyfile(HEADER + source)
    done = pytester.runpytest_subprocess(*PLUGINS, "--require")
    assert done.ret == pytest.ExitCode.TESTS_FAILED
    assert "--require: needs room for 1000000000 mounts" in done.stdout.str()


def test_room_for_what_nobody_counts_is_an_error_of_usage(pytester: pytest.Pytester) -> None:
    source = "@pytest.mark.room(processes=1)\ndef test_it(): pass\n"
    pytester.makepyfile(test_it=HEADER + source)
    done = pytester.runpytest_subprocess(*PLUGINS)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    text = done.stdout.str() + done.stderr.str()
    assert "test_it needs room for 'processes', which is nothing that is counted" in text
    assert "counted are mount_namespaces, user_namespaces, mounts, descriptors" in text
