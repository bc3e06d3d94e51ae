# SPDX-License-Identifier: GPL-2.0-only
"""What is built of a source: one kernel with all switches, and one for each fault without."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm import paths
from vm.errors import Exit, Problem
from vm.faults.build import Workshop
from vm.faults.catalogue import HAND, Edit, Fault, Operators
from vm.faults.planted import Source, plant
from vm.kernel.image import Kernel, Kind

FILE = "fs/nullfs.c"
TEXT = """#include <linux/fs.h>
static int f(int x)
{
	if (g(x))
		return -EINVAL;
	return 0;
}
static struct table = {
	.f	= f,
};
"""
SWITCHED = Fault("a", "base", HAND, (Edit(FILE, "f", "g(x)", "0"),), "s", ("K1",))
ALONE = Fault("b", "base", HAND, (Edit(FILE, "", ".f = f,", ""),), "s", ("K1",), alone=True)


class Played(Workshop):
    """Builds nothing: the kernel is the source that it would be made of."""

    #: Texts that do not compile, and what make says.
    wrong: dict[str, str]

    def _built(self) -> Kernel:
        text = (self._copy.folder / FILE).read_text()
        for part, log in self.wrong.items():
            if part in text:
                self._log.write_text(log)
                raise Problem("make failed", Exit.NOT_BOOTED)
        path = self.objects / "linux"
        path.write_text(text)
        return Kernel(path, Kind.UML, "7.9", "played")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    folder = tmp_path / "linux"
    (folder / "fs").mkdir(parents=True)
    (folder / "include/linux").mkdir(parents=True)
    (folder / FILE).write_text(TEXT)
    (folder / "fs/Makefile").write_text("")
    return folder


def played(source: Path, wrong: dict[str, str]) -> Played:
    workshop = Played(source, False, source.parent / "log", ())
    workshop.wrong = wrong
    with workshop.held():
        return workshop


def test_a_fault_without_a_switch_has_a_kernel_of_its_own(source: Path, tmp_path: Path) -> None:
    planted = plant(Source(source), [SWITCHED, ALONE], Operators())
    assert [fault.id for fault in planted.numbers.values()] == ["a"]
    workshop = played(source, {})
    with_switches = workshop.kernel(planted).path.read_text()
    assert "planted(1)" in with_switches
    own = workshop.alone(planted, ALONE, tmp_path / "own")
    assert own.path.read_text() == TEXT.replace(".f	= f,", "")
    assert own.path.parent == tmp_path / "own"
    assert workshop.kernel(planted).path.read_text() == with_switches
    assert (source / FILE).read_text() == TEXT


def test_mechanical_faults_that_do_not_compile_are_left_out(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = plant(Source(source), [SWITCHED], Operators({FILE: ("f",)}))
    column = planted.woven()[FILE].text.splitlines()[4].index("EPERM")
    log = f"{FILE}:5:{column}: error: no such error\n"
    kernel = played(source, {"EPERM": log}).kernel(planted)
    assert "EPERM" not in kernel.path.read_text()
    assert list(planted.dropped.values()) == [
        "is the same as a",
        "does not compile: no such error",
    ]
    assert "does not compile: no such error" in capsys.readouterr().err


def test_what_is_not_for_a_faults_sake_ends_the_build(source: Path) -> None:
    planted = plant(Source(source), [SWITCHED], Operators())
    with pytest.raises(Problem, match="make failed"):
        played(source, {"planted": "gcc: not found\n"}).kernel(planted)
