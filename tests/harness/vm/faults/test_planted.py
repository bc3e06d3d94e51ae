# SPDX-License-Identifier: GPL-2.0-only
"""Where faults come to lie in a source, and the copy that they are planted in."""

from __future__ import annotations

from pathlib import Path

import pytest

from vm.errors import Problem
from vm.faults.catalogue import HAND, Edit, Fault, Operators
from vm.faults.copy import HEADER, OBJECT, Copy
from vm.faults.planted import Planted, Source, blamed, plant

FILE = "fs/namespace.c"
TEXT = """#include <linux/fs.h>

static int f(int x)
{
	if (x && g(x))
		return -EINVAL;
	return 0;
}
"""


def fault(name: str, find: str, replace: str, function: str = "f") -> Fault:
    return Fault(name, "locks", HAND, (Edit(FILE, function, find, replace),), "s", ("K1",))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "linux"
    (folder / "fs").mkdir(parents=True)
    (folder / "include/linux").mkdir(parents=True)
    (folder / FILE).write_text(TEXT)
    (folder / "fs/Makefile").write_text("obj-y := namespace.o\n")
    (folder / "fs/other.c").write_text("int other;\n")
    (folder / "fs/namespace.o").write_text("built")
    return folder


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (fault("a", "h(x)", "0"), "locks.toml: a: this text is not in f() of fs/namespace.c: h(x)"),
        (fault("a", "x", "y"), "this text is 2 times in f()"),
        (fault("a", "g(x)", "0", "gone"), "there is no gone() of fs/namespace.c"),
    ],
)
def test_a_fault_without_a_place_is_named(source: Path, made: Fault, text: str) -> None:
    with pytest.raises(Problem) as error:
        plant(Source(source), [made], Operators())
    assert text in str(error.value)
    assert "\nhint: " in str(error.value)


def test_mechanical_faults_give_way_to_those_written_by_hand(source: Path) -> None:
    known = Operators({FILE: ("f",)}, left_out={f"{FILE}:f:drop:x": "why"})
    hand = [fault("a", "x && g(x)", "0"), fault("b", "if (x && g(x)) return -EINVAL;", "")]
    planted = plant(Source(source), hand, known)
    names = [one.id for one in planted.numbers.values()]
    errno = f"{FILE}:f:errno:-EINVAL of if (x && g(x)) return"
    assert names == ["a", "b", f"{FILE}:f:drop:g(x)", errno]
    assert planted.dropped == {f"{FILE}:f:never:x && g(x)": "is the same as a"}


def test_overlapping_faults_written_by_hand_are_named(source: Path) -> None:
    with pytest.raises(Problem, match="a and b: their texts overlap"):
        plant(Source(source), [fault("a", "x && g", "0"), fault("b", "g(x)", "0")], Operators())


def test_what_does_not_compile_is_blamed_on_its_fault(source: Path) -> None:
    planted = plant(Source(source), [fault("a", "g(x)", "0")], Operators({FILE: ("f",)}))
    woven = planted.woven()
    number = next(n for n, one in planted.numbers.items() if "errno" in one.id)
    line = next(n for n, text in enumerate(woven[FILE].text.splitlines(), 1) if "EPERM" in text)
    column = woven[FILE].text.splitlines()[line - 1].index("EPERM") + 1
    log = f"/copy/{FILE}:{line}:{column}: error: 'EPERM' undeclared\n"
    assert blamed(planted, woven, log) == {number: "'EPERM' undeclared"}
    only = Planted(planted.source, {1: planted.numbers[1]}, {1: planted.places[1]})
    woven = only.woven()
    column = woven[FILE].text.splitlines()[4].index("planted") + 1
    with pytest.raises(Problem, match=r"locks\.toml: a: does not compile: no"):
        blamed(only, woven, f"{FILE}:5:{column}: error: no\n")


def test_the_source_itself_is_never_edited(source: Path, tmp_path: Path) -> None:
    copy = Copy(source, tmp_path / "copies/one")
    copy.refresh()
    planted = plant(Source(source), [fault("a", "g(x)", "0")], Operators())
    copy.plant(planted.woven())
    assert (source / FILE).read_text() == TEXT
    assert "planted(1)" in (copy.folder / FILE).read_text()
    assert "planted.o" in (copy.folder / "fs/Makefile").read_text()
    assert "planted.o" not in (source / "fs/Makefile").read_text()
    assert not any((source / name).exists() for name in (HEADER, f"{OBJECT}.c"))
    assert not (copy.folder / "fs/namespace.o").exists()
    assert (copy.folder / "fs/other.c").samefile(source / "fs/other.c")


def test_what_stays_the_same_keeps_its_time(source: Path, tmp_path: Path) -> None:
    copy = Copy(source, tmp_path / "copy")
    copy.refresh()
    planted = plant(Source(source), [fault("a", "g(x)", "0")], Operators())
    copy.plant(planted.woven())
    before = (copy.folder / FILE).stat()
    (source / "fs/other.c").write_text("int another;\n")
    copy.refresh()
    copy.plant(planted.woven())
    assert (copy.folder / FILE).stat().st_mtime_ns == before.st_mtime_ns
    assert (copy.folder / "fs/other.c").read_text() == "int another;\n"
    copy.plant({})
    assert (copy.folder / FILE).read_text() == TEXT
