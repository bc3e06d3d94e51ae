# SPDX-License-Identifier: GPL-2.0-only
"""What forbids namespaces is recognised and named, with what would allow them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.utils.probes import namespaces as access
from tests.utils.probes import seccomp, sysctl
from tests.utils.tasks.userns import enter_new_userns
from tests.utils.uapi.caps import keep_only

CLONE, APPARMOR = "unprivileged_userns_clone", "apparmor_restrict_unprivileged_userns"
#: Debian's kernel and Ubuntu's, with nothing forbidden.
OPEN = {
    "user/max_user_namespaces": "500",
    "user/max_mnt_namespaces": "500",
    f"kernel/{CLONE}": "1",
    f"kernel/{APPARMOR}": "0",
}


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    """No answer of this machine counts here, and none from here elsewhere."""
    questions: tuple[Any, ...] = (
        access.mount_ns_missing,
        access.userns_missing,
        access.nested_userns_missing,
    )
    for question in questions:
        question.cache_clear()
    yield
    for question in questions:
        question.cache_clear()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Play a machine: its switches, and the step of the caller that ends in an error."""

    def play(
        step: Callable[[], None], number: int, *, privileged: bool = False, **switches: str
    ) -> None:
        for name, value in OPEN.items():
            file = tmp_path / "sys" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(switches.get(file.name, value) + "\n")
        (tmp_path / "self/ns").mkdir(parents=True)
        (tmp_path / "self/ns/user").touch()

        def in_child(taken: Callable[[], None]) -> None:
            if taken is step:
                raise OSError(number, os.strerror(number), "/proc/self/uid_map")

        monkeypatch.setattr(sysctl, "PROC", tmp_path)
        monkeypatch.setattr(seccomp, "in_force", lambda: False)
        monkeypatch.setattr(access, "in_child", in_child)
        monkeypatch.setattr(access, "_privileged", lambda: privileged)

    return play


@pytest.mark.parametrize(
    ("step", "number", "switches", "reason"),
    [
        (
            enter_new_userns,
            errno.EPERM,
            {CLONE: "0"},
            "cannot make a user namespace (Operation not permitted): "
            "kernel.unprivileged_userns_clone is 0; "
            "sysctl kernel.unprivileged_userns_clone=1 allows it",
        ),
        (
            enter_new_userns,
            errno.ENOSPC,
            {"max_user_namespaces": "0", APPARMOR: "1"},
            "cannot make a user namespace (No space left on device): "
            "user.max_user_namespaces is 0; sysctl user.max_user_namespaces=10000 allows it",
        ),
        (
            enter_new_userns,
            errno.EPERM,
            {APPARMOR: "1"},
            "cannot make a user namespace (Operation not permitted): "
            "kernel.apparmor_restrict_unprivileged_userns is 1; "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows it",
        ),
        # The namespace is made, and gives no capabilities.
        (
            access._enter_case,
            errno.EACCES,
            {APPARMOR: "1"},
            "cannot make a mount namespace in a user namespace (Permission denied): "
            "kernel.apparmor_restrict_unprivileged_userns is 1; "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0 allows it",
        ),
        (
            access._enter_case,
            errno.ENOSPC,
            {"max_mnt_namespaces": "0"},
            "cannot make a mount namespace in a user namespace (No space left on device): "
            "user.max_mnt_namespaces is 0; sysctl user.max_mnt_namespaces=10000 allows it",
        ),
        # A switch that is set is not to blame for what it does not do.
        (
            enter_new_userns,
            errno.ENOSPC,
            {CLONE: "0", APPARMOR: "1"},
            "cannot make a user namespace (No space left on device): "
            "user.max_user_namespaces (500) is reached",
        ),
        (
            access._enter_case,
            errno.ENOSPC,
            {"max_mnt_namespaces": "1"},
            "cannot make a mount namespace in a user namespace (No space left on device): "
            "user.max_mnt_namespaces (1) is reached",
        ),
        (
            enter_new_userns,
            errno.EPERM,
            {"max_user_namespaces": "0"},
            "cannot make a user namespace (Operation not permitted): "
            "a security module or a chroot may be why",
        ),
        (
            enter_new_userns,
            errno.EUSERS,
            {},
            "cannot make a user namespace (Too many users): no known switch is why",
        ),
    ],
)
def test_a_restriction_is_named(
    machine: Callable[..., None],
    step: Callable[[], None],
    number: int,
    switches: dict[str, str],
    reason: str,
) -> None:
    machine(step, number, **switches)
    expected = f"needs CAP_SYS_ADMIN or a user namespace; {reason}"
    for question in (access.mount_ns_missing, access.userns_missing, access.nested_userns_missing):
        missing = question()
        assert missing is not None
        assert (missing.reason, missing.broken) == (expected, False)


def test_a_kernel_without_user_namespaces(machine: Callable[..., None], tmp_path: Path) -> None:
    machine(enter_new_userns, errno.EINVAL)
    (tmp_path / "self/ns/user").unlink()
    missing = access.mount_ns_missing()
    assert missing is not None
    assert missing.reason.endswith("(Invalid argument): the kernel has none (CONFIG_USER_NS)")


def test_root_may_lack_no_more_than_what_is_nested(machine: Callable[..., None]) -> None:
    machine(access._nest, errno.EPERM, privileged=True, **{CLONE: "0"})
    assert access.mount_ns_missing() is None
    assert access.userns_missing() is None
    missing = access.nested_userns_missing()
    assert missing is not None
    assert missing.reason.startswith("cannot make a user namespace in a user namespace (Operation")
    assert "kernel.unprivileged_userns_clone is 0" in missing.reason


def test_capabilities_that_are_denied_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a real namespace, and none of the capabilities that it should give."""
    if access.userns_missing() is not None:
        pytest.skip("user namespaces are restricted here in earnest")

    def deny() -> None:
        enter_new_userns()
        keep_only()

    access.userns_missing.cache_clear()
    access.mount_ns_missing.cache_clear()
    monkeypatch.setattr(access, "enter_new_userns", deny)
    missing = access.userns_missing()
    assert missing is not None
    assert "cannot make a mount namespace in a user namespace (Operation not" in missing.reason
