# SPDX-License-Identifier: GPL-2.0-only
"""The virtme-ng backend, with a vng that is a script: what it is told, and what is said of it."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from vm.arch import X86_64
from vm.backend import virtme_ng
from vm.backend.base import Boot, Machine
from vm.backend.qemu import Qemu
from vm.errors import Problem
from vm.kernel.image import Kernel, Kind


def program(path: Path, *lines: str) -> Path:
    """A shell script."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture
def qemu(tmp_path: Path) -> Qemu:
    """One that has what vng asks for."""
    return Qemu(program(tmp_path / "qemu", "exit 0"), X86_64)


@pytest.mark.parametrize(
    ("version", "warned"), [("1.34", False), ("1.42", False), ("1.33", True), ("2.0", True)]
)
def test_a_version_that_was_not_tried_is_warned_of_and_used(
    tmp_path: Path,
    qemu: Qemu,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    version: str,
    warned: bool,
) -> None:
    path = program(tmp_path / "vng", f"echo virtme-ng {version}")
    monkeypatch.setenv("VNG", str(path))
    assert virtme_ng.find(qemu).program == path
    expected = f"vm: virtme-ng {version} was not tried here, 1.34 to 1.42 were; going on with it\n"
    assert capsys.readouterr().err == (expected if warned else "")


@pytest.mark.parametrize(
    ("lines", "qemu_lines", "words"),
    [
        (["echo broken >&2; exit 1"], ["exit 0"], "vng does not run here: broken"),
        (["echo virtme-ng 1.42"], ["exit 1"], "has no virtio-9p, .*\nhint: .* use --backend"),
        (None, ["exit 0"], "VNG=.*: no such program"),
    ],
)
def test_what_is_missing_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lines: list[str] | None,
    qemu_lines: list[str],
    words: str,
) -> None:
    monkeypatch.setenv("VNG", str(tmp_path / "vng"))
    if lines is not None:
        program(tmp_path / "vng", *lines)
    with pytest.raises(Problem, match=words):
        virtme_ng.find(Qemu(program(tmp_path / "qemu", *qemu_lines), X86_64))


def test_the_guest_is_given_our_image_and_no_folder_but_an_empty_one(tmp_path: Path) -> None:
    found = virtme_ng.Vng(tmp_path / "bin/vng", Qemu(Path("/opt/my qemu"), X86_64, ("-L", "/a b")))
    kernel = Kernel(Path("/k/bzImage"), Kind.BZIMAGE, "7.9", "k")
    machine = Machine(share="1/2", append=("--", "-c", "f('x')"), qemu_args=("-s", "a b"))
    command = found.command(Boot(kernel, Path("/i"), "/proc/7/fd/9", machine, Path("/scratch")))
    words = command.arguments
    assert words[words.index("--root") + 1] == "/scratch"
    (extra,) = (word for word in words if word.startswith("--qemu-opts="))
    # vng hands this to a shell.
    assert shlex.split(extra.partition("=")[2]) == [
        *("-L", "/a b", "-no-reboot", "-initrd", "/i", "-serial", "file:/proc/7/fd/9"),
        *("-s", "a b"),
    ]
    assert shlex.split(words[words.index("--qemu") + 1]) == ["/opt/my qemu"]
    appended = shlex.split(words[words.index("--append") + 1])
    assert appended[0] == "console=ttyS0"
    assert appended[-3:] == ["--", "-c", "f('x')"]
    assert {"vm.share=1/2", "rdinit=/init", "panic=-1", "vm.end=restart"} <= set(appended)
    assert "--disable-kvm" in words
    assert dict(command.environment)["PATH"].startswith(f"{tmp_path / 'bin'}:")
