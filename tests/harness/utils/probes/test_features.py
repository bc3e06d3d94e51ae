# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel lacks is told from how its calls end, and asking changes no setting."""

from __future__ import annotations

import errno
import inspect
from pathlib import Path

import pytest

from tests.utils.probes import features, namespaces, sysctl
from tests.utils.probes.features import FEATURES
from tests.utils.probes.probe import Missing
from tests.utils.uapi import fault_injection
from tests.utils.uapi.constants import CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, Clone


@pytest.mark.parametrize("kind", [CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWNET])
def test_a_kernel_without_a_kind_of_namespaces(
    monkeypatch: pytest.MonkeyPatch, kind: Clone
) -> None:
    if there := namespaces.mount_ns_missing():
        pytest.skip(there.reason)

    def refuse(flags: int) -> None:
        if flags & kind:
            raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(features, "unshare", refuse)
    short = str(kind.name).removeprefix("CLONE_NEW")
    name = "network" if kind is CLONE_NEWNET else short
    assert inspect.unwrap(FEATURES[f"{name} namespace"])() == Missing(
        f"kernel has no {name} namespaces (CONFIG_{short}_NS) (the probe gave EINVAL)"
    )


@pytest.fixture
def failslab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a kernel with fault injection, never written so far."""
    for name, value in (("ignore-gfp-wait", "Y\n"), ("verbose", "2\n"), ("fail-nth", "0\n")):
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(0o600)
    monkeypatch.setattr(fault_injection, "_FAILSLAB", tmp_path)
    monkeypatch.setattr(fault_injection, "_FAIL_NTH", str(tmp_path / "fail-nth"))
    return tmp_path


def state(folder: Path) -> dict[str, tuple[str, int]]:
    """What each file holds, and when it was written last."""
    return {file.name: (file.read_text(), file.stat().st_mtime_ns) for file in folder.iterdir()}


def test_the_question_writes_nothing(failslab: Path) -> None:
    before = state(failslab)
    fault_injection.ask_for_faults()
    assert state(failslab) == before


@pytest.mark.parametrize("name", ["verbose", "fail-nth"])
def test_a_kernel_without_it(failslab: Path, name: str) -> None:
    (failslab / name).unlink()
    with pytest.raises(FileNotFoundError):
        fault_injection.ask_for_faults()


def test_the_settings_are_restored(failslab: Path) -> None:
    with fault_injection.faults_possible():
        assert (failslab / "ignore-gfp-wait").read_text() == "N"
        assert (failslab / "verbose").read_text() == "0"
    assert (failslab / "ignore-gfp-wait").read_text() == "Y\n"
    assert (failslab / "verbose").read_text() == "2\n"


def test_a_limit_of_the_machine_is_no_fault_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    if there := namespaces.mount_ns_missing():
        pytest.skip(there.reason)

    def refuse(path: str) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(features, "inotify_watch", refuse)
    monkeypatch.setattr(sysctl, "value", {"fs.inotify.max_user_instances": "128"}.get)
    assert inspect.unwrap(FEATURES["inotify"])() == Missing(
        "no room for inotify (CONFIG_INOTIFY_USER): it gave EMFILE, and "
        "fs.inotify.max_user_instances is 128; "
        "sysctl fs.inotify.max_user_instances=10000 allows it"
    )
