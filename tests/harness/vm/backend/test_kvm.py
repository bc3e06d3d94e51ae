# SPDX-License-Identifier: GPL-2.0-only
"""Whether KVM works here: what is remembered of a trial, and that none is made unasked.

/dev/kvm is a file and QEMU a script.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vm import paths
from vm.arch import ARM64, X86_64, Arch
from vm.backend import kvm
from vm.backend.qemu import Qemu
from vm.kernel.image import Kernel, Kind

Try = Callable[..., str]


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Give the accelerator for the kernel of a name: "good" boots under KVM, all others do not."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kvm, "_KVM", tmp_path / "kvm")
    monkeypatch.setattr(kvm, "_PROBE_LIMIT", 0.5)
    kvm._say.cache_clear()  # what another test was told is told again
    (tmp_path / "kvm").touch()
    qemu = tmp_path / "qemu"
    qemu.write_text(
        f'#!/bin/sh\necho >>{tmp_path}/trials\ncase $* in *good*) echo "Linux version 7";; esac\n'
    )
    qemu.chmod(0o755)

    def attempt(name: str, trial: bool = True, arch: Arch = X86_64) -> str:
        if not (tmp_path / name).exists():
            (tmp_path / name).touch()
        kernel = Kernel(tmp_path / name, Kind.BZIMAGE, "7.9", name)
        return kvm.accelerated(Qemu(qemu, arch), kernel, trial).accelerator

    return attempt


def trials(tmp_path: Path) -> int:
    path = tmp_path / "trials"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_kernel_that_does_not_boot_switches_kvm_off_for_itself_alone(
    tried: Try, tmp_path: Path
) -> None:
    assert [tried(name) for name in ("bad", "good", "bad", "worse")] == ["tcg", "kvm", "kvm", "kvm"]
    # That it works was seen; and before, what did not boot is not tried again.
    assert trials(tmp_path) == 2


def test_a_kernel_is_tried_once_where_kvm_was_not_seen_to_work(tried: Try, tmp_path: Path) -> None:
    assert [tried(name) for name in ("bad", "bad", "worse", "bad")] == ["tcg"] * 4
    assert trials(tmp_path) == 2
    with (tmp_path / "bad").open("a") as file:
        file.write("built anew")
    tried("bad")
    assert trials(tmp_path) == 3


def test_what_is_remembered_can_be_found_and_forgotten(
    tried: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    tried("silent")
    printed = capsys.readouterr()
    memory = paths.cache() / "kvm.json"
    assert printed.out == ""
    assert f"silent did not boot under {kvm._KVM}; {memory} remembers that" in printed.err
    memory.write_text("not even JSON")
    assert tried("good") == "kvm"


def test_a_dry_run_starts_nothing_and_takes_kvm_for_working(tried: Try, tmp_path: Path) -> None:
    assert tried("bad", trial=False) == "kvm"
    assert trials(tmp_path) == 0
    tmp_path.joinpath("kvm").unlink()
    assert tried("bad", trial=False) == "tcg"


def test_a_kernel_for_another_processor_is_not_tried(
    tmp_path: Path, tried: Try, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tried("good", arch=ARM64) == "tcg"
    assert "no KVM (the kernel is for arm64)" in capsys.readouterr().err
    assert trials(tmp_path) == 0
