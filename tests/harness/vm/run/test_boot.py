# SPDX-License-Identifier: GPL-2.0-only
"""Which programs a kernel is to run: those of its own kind, or what --userland names."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, arm64_image, bzimage, elf
from vm.arch import ARCHITECTURES, ARM64, PROCESSORS, X86_64, Processor
from vm.backend.qemu import Qemu
from vm.commands import main
from vm.errors import Exit
from vm.initramfs import foreign, python
from vm.initramfs.python import Runtime
from vm.kernel.image import identify
from vm.run.boot import Boots
from vm.run.plan import Options


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an image for x86 and one for arm64, and a QEMU that is never started."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("QEMU", "true")
    (tmp_path / "x86").write_bytes(bzimage())
    (tmp_path / "arm64").write_bytes(arm64_image())
    return tmp_path


@pytest.mark.parametrize(
    ("kernel", "words", "error"),
    [
        ("arm64", "--userland i386", "--userland i386: {} runs those for arm64 or armhf"),
        ("x86", "--userland arm64", "--userland arm64: {} runs those for amd64 or i386"),
        ("arm64", "--system debian:trixie", "--system: it is for this machine's own processor"),
        ("x86", "--system debian --userland i386", "--system: it is for this machine's own proces"),
    ],
)
def test_programs_that_the_kernel_or_the_system_does_not_run_are_refused(
    kernels: Path, capsys: pytest.CaptureFixture[str], kernel: str, words: str, error: str
) -> None:
    path = kernels / kernel
    assert main.main(["run", "--dry-run", "--kernel", str(path), *words.split()]) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0].startswith(f"vm: {error.format(path)}")
    assert lines[1].startswith("hint: ")


def test_a_shell_in_a_guest_of_another_processor_is_refused(
    kernels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("uname"))
    assert main.main(["shell", "--kernel", str(kernels / "arm64")]) == Exit.USAGE
    lines = capsys.readouterr().err.splitlines()[-2:]
    assert lines[0].startswith("vm: shell: its tools are this machine's own, and this guest's are")
    assert lines[1].startswith("hint: ")


@pytest.mark.parametrize(
    ("kernel", "userland", "fetched"),
    [("x86", "", []), ("x86", "i386", ["i386"]), ("arm64", "", ["arm64"]), ("x86", "amd64", [])],
)
def test_python_is_fetched_for_what_the_programs_are_for(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, kernel: str, userland: str, fetched: list[str]
) -> None:
    asked = []

    def fetch(processor: Processor, own: Runtime) -> Runtime:
        asked.append(processor.debian)
        return own

    monkeypatch.setattr(python, "find", lambda extra: "own")
    monkeypatch.setattr(foreign, "runtime", fetch)
    image = identify(kernels / kernel)
    options = Options(userland=PROCESSORS.get(userland))
    boots = Boots(image, Qemu(Path("true"), image.arch), options)
    assert str(boots.runtime) == "own"
    assert asked == fetched
    words = {"arm64": " for arm64", "i386": " with programs for i386"}
    assert boots.where == f"qemu/tcg{words.get(userland or kernel, '')}"


def test_kernels_of_several_architectures_make_one_matrix(
    kernels: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernels / "um").write_bytes(elf(0x60000000, banner=BANNER))
    monkeypatch.delenv("QEMU")
    monkeypatch.setenv("PATH", str(kernels))
    for arch in ARCHITECTURES.values():
        if arch.board:
            (kernels / arch.processor.qemu).symlink_to("/bin/true")
    words = [word for name in ("x86", "arm64", "um") for word in ("--kernel", str(kernels / name))]
    assert main.main(["run", "--dry-run", "--guests", "1", *words]) == Exit.OK
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    programs = (X86_64.processor.qemu, ARM64.processor.qemu, "um")
    for line, program, name in zip(lines, programs, ("x86", "arm64", "um"), strict=True):
        assert f"{kernels}/{program} " in line
        assert f"vm.report=/dev/{ARCHITECTURES[name].report} " in line
