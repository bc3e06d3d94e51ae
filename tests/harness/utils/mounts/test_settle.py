# SPDX-License-Identifier: GPL-2.0-only
"""Others may hold a namespace for a moment; what the kernel leaks stays."""

from __future__ import annotations

import errno
import os
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest

from tests.harness.helpers.callers import user_namespaces
from tests.utils.expect import Call
from tests.utils.mounts import settle
from tests.utils.tasks.fd_passing import fds_from_child
from tests.utils.tasks.userns import in_own_mount_ns
from tests.utils.uapi.nsfs import current_mnt_ns, exists, ns_id


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that pass while nothing is waited for in fact."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    fake = SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    monkeypatch.setattr("tests.utils.mounts.settle.time", fake)
    return now


def test_what_is_expected_is_returned_at_once(clock: list[float]) -> None:
    assert settle.settled(lambda: 3, 3) == 3
    assert clock == [0.0]


def test_what_others_delay_is_looked_at_again(clock: list[float]) -> None:
    found = iter([1, 2, 3, 4])
    assert settle.settled(lambda: next(found), 3) == 3
    assert 0 < clock[0] < 0.1


def test_what_stays_is_returned_in_the_end(clock: list[float]) -> None:
    assert settle.settled(lambda: "leaked", "gone") == "leaked"
    assert 1.9 < clock[0] < 2.1


def test_a_limit_that_others_have_reached_is_tried_again(clock: list[float]) -> None:
    ends = iter([errno.ENOSPC, errno.ENOSPC, 0])

    def make() -> str:
        if number := next(ends):
            raise OSError(number, "refused")
        return "made"

    assert settle.within_limit(make) == "made"
    assert clock[0] < 0.1


@pytest.mark.parametrize(("number", "seconds"), [(errno.ENOSPC, 2.0), (errno.EPERM, 0.0)])
def test_other_refusals_and_a_full_limit_are_raised(
    clock: list[float], number: int, seconds: float
) -> None:
    def make() -> None:
        raise OSError(number, "refused")

    with pytest.raises(OSError, match="refused") as raised:
        settle.within_limit(make)
    assert raised.value.errno == number
    assert clock[0] == pytest.approx(seconds, abs=0.1)


def test_a_namespace_is_let_go_and_waited_for(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, True, False])
    asked = list[int]()
    fd = os.open("/dev/null", os.O_RDONLY)

    def there(number: int) -> bool:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
        asked.append(number)
        return next(looks)

    monkeypatch.setattr(settle, "ns_id", lambda fd: fd + 1000)
    monkeypatch.setattr(settle, "exists", there)
    settle.let_go(fd)
    assert asked == [fd + 1000] * 3
    assert 0 < clock[0] < 0.1


def test_a_namespace_that_another_looks_at_is_gone_after_that() -> None:
    user_namespaces()
    (fd,) = fds_from_child(in_own_mount_ns(lambda: [current_mnt_ns()]))
    try:
        number = ns_id(fd)
        if not exists(number):
            raise OSError(errno.ENOENT, "made by another user namespace")
    except OSError as error:
        os.close(fd)
        pytest.skip(f"this caller cannot look at the namespace: {error}")
    look = threading.Timer(0.05, lambda: os.close(fd))
    look.start()
    assert exists(number)
    begin = time.monotonic()
    assert settle.gone(number)
    assert time.monotonic() - begin < 1
    look.join()


def test_a_text_names_the_call_that_is_made() -> None:
    assert str(Call(settle.within_limit, (partial(os.close, 5),))) == "close(fd 5)"
