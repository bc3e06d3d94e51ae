# SPDX-License-Identifier: GPL-2.0-only
"""The table of architectures: complete, and the only place that has what is in it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.helpers.images import arm64_image, bzimage
from tests.harness.helpers.suite import ROOT
from vm import arch
from vm.arch import ARCHITECTURES, ARM64, PROCESSORS, UM, X86_64, Arch
from vm.backend import choose, qemu
from vm.backend.base import Boot, Machine
from vm.backend.qemu import Qemu
from vm.errors import Problem
from vm.kernel import kconfig
from vm.kernel.image import identify

TABLE = Path(arch.__file__)
BOARDS = [one for one in ARCHITECTURES.values() if one.board]
#: What differs between architectures, as text of a program.
LITERAL = re.compile(
    r"\bttyS\d|\bttyAMA|\bhvc\d|bzImage|\bq35\b|microvm|\bvirt\b|qemu-system|qemu-kvm"
    r"|x86|amd64|arm64|aarch64|i[3-6]86|armhf|armv7|riscv|s390|ppc64|ld-linux|loongarch",
    re.I,
)
#: Those that are something else than what differs between guests: (file, text).
ELSEWHERE = {
    # Forms of files, by the names that they have for their users.
    ("vm/kernel/image.py", "bzImage"),
    ("vm/kernel/files.py", "bzImage"),
    ("vm/kernel/installed.py", "bzImage"),
    ("vm/kernel/image.py", "arm64"),
    ("vm/kernel/image.py", "x86"),
    ("vm/kernel/image.py", "riscv"),
    # An option of vng's.
    ("vm/backend/virtme_ng.py", "microvm"),
    # Pages of help, with examples.
    ("vm/commands/texts.py", "bzImage"),
    ("vm/commands/texts.py", "x86"),
    ("vm/commands/texts.py", "amd64"),
    ("vm/commands/texts.py", "arm64"),
}


def literals() -> Iterator[tuple[str, str, int]]:
    """Yield (file, text, line) of each literal of an architecture in vm/'s strings."""
    for path in sorted((ROOT / "vm").rglob("*.py")):
        tree = ast.parse(path.read_text())
        documents = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node not in documents and path != TABLE:
                text = node.value if isinstance(node.value, str) else ""
                for match in LITERAL.finditer(text):
                    yield str(path.relative_to(ROOT)), match[0], node.lineno


def test_no_other_module_has_a_literal_of_an_architecture() -> None:
    found = list(literals())
    known = {(file, text) for file, text, _ in found} & ELSEWHERE
    assert [one for one in found if one[:2] not in known] == []
    assert known == ELSEWHERE  # none that is not needed


@pytest.mark.parametrize("one", BOARDS, ids=lambda one: one.name)
def test_every_row_of_a_machine_makes_a_command(one: Arch, tmp_path: Path) -> None:
    """Two serial lines, and of the kernel's command line what the row says."""
    assert one.board is not None
    (tmp_path / "kernel").write_bytes(arm64_image() if one is ARM64 else bzimage())
    kernel = identify(tmp_path / "kernel")
    assert kernel.arch is one
    program = Qemu(Path("/usr/bin") / one.processor.qemu, one)
    boot = Boot(kernel, Path("/i"), "/a,b", Machine(), Path("/s"))
    words = program.command(boot).arguments
    assert words[words.index("-machine") + 1] == one.board.machine
    assert any("/a,,b" in word for word in words)
    told = words[words.index("-append") + 1].split()
    assert {f"console={one.board.console}", f"vm.report=/dev/{one.report}"} <= set(told)
    assert f"thp_anon={one.board.pieces}:always" in told


@pytest.mark.parametrize("one", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_every_row_has_a_fragment_with_its_serial_lines_and_a_backend(one: Arch) -> None:
    options = kconfig.read(kconfig.guest(one.name))
    assert options["BLK_DEV_INITRD"] == "y"
    assert any("SERIAL" in name or name == "SSL" for name in options)
    assert any(one in choice.architectures for choice in choose.BACKENDS.values())


def test_no_two_processors_are_told_alike() -> None:
    for field in ("machine", "elf", "debian"):
        values = {getattr(one, field) for one in PROCESSORS.values()}
        assert len(values) == len(PROCESSORS)


def on(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have uname(2) say that this is a *machine*."""
    names = ("Linux", "host", "7.9", "#1", machine)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(names))


@pytest.mark.parametrize(
    ("machine", "own"), [("x86_64", X86_64), ("aarch64", ARM64), ("riscv64", X86_64)]
)
def test_the_default_is_this_machines_own(
    machine: str, own: Arch, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(machine, monkeypatch)
    assert arch.native() is own
    natives = [one.machine for one in PROCESSORS.values() if one.native]
    assert natives == [machine] * (machine != "riscv64")


def test_user_mode_linux_is_refused_on_a_machine_that_cannot_run_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on("aarch64", monkeypatch)
    with pytest.raises(Problem, match=r"User-Mode Linux .* x86_64, .* is aarch64\nhint: "):
        choose.BACKENDS["uml"].find(UM)


def test_a_qemu_that_is_named_is_taken_for_its_own_processor_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for one in BOARDS:
        (tmp_path / one.processor.qemu).write_text("#!/bin/sh\n")
        (tmp_path / one.processor.qemu).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for wish in (one.processor.qemu for one in BOARDS):
        monkeypatch.setenv("QEMU", str(tmp_path / wish))
        assert [qemu.find(one).program.name for one in BOARDS] == [
            one.processor.qemu for one in BOARDS
        ]
    (tmp_path / "mine").symlink_to(tmp_path / X86_64.processor.qemu)
    monkeypatch.setenv("QEMU", "mine")
    assert {qemu.find(one).program.name for one in BOARDS} == {"mine"}
