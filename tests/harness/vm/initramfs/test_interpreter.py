# SPDX-License-Identifier: GPL-2.0-only
"""Which Python a guest runs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from vm.initramfs import interpreter, libraries, python
from vm.initramfs.interpreter import Interpreter

NAME = f"python{sys.version_info.major}.{sys.version_info.minor}"
OWN = interpreter.own()


def program(folder: Path, name: str = NAME) -> Path:
    """An ELF program, not Python, in a new *folder*."""
    folder.mkdir()
    return Path(shutil.copy(shutil.which("true") or "/bin/true", folder / name))


def test_running_one_answers_what_it_is() -> None:
    assert interpreter.ask(OWN.executable, sys.path) == OWN


def test_what_lacks_pytest_is_none() -> None:
    assert interpreter.ask(OWN.executable, []) is None


def test_what_is_no_python_is_none(tmp_path: Path) -> None:
    assert interpreter.ask(program(tmp_path / "bin"), sys.path) is None
    assert interpreter.ask(tmp_path, sys.path) is None


def test_others_are_programs_of_this_version_each_once(tmp_path: Path) -> None:
    wanted = program(tmp_path / "wanted")
    program(tmp_path / "older", "python3.1")
    names = ("again", "running", "script", "plain")
    again, running, script, plain = (tmp_path / name for name in names)
    for folder in (again, running, script, plain):
        folder.mkdir()
    (again / NAME).symlink_to(wanted)
    (running / NAME).symlink_to(OWN.executable)
    (script / NAME).write_text("#!/bin/sh\n")
    (script / NAME).chmod(0o755)
    (plain / NAME).write_text("no program")
    folders = [*map(str, sorted(tmp_path.iterdir())), str(tmp_path / "missing")]

    assert list(interpreter.others(OWN.executable, folders)) == [wanted]


class Host:
    """Two interpreters: which of them are linked with libpython, and how often one was asked."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.other = replace(OWN, executable=program(tmp_path / "bin"), version="another build")
        self.answer: Interpreter | None = self.other
        self.shared = {OWN.executable}
        self.asked = 0
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))
        monkeypatch.setattr(os, "defpath", "")
        monkeypatch.setattr(interpreter, "ask", self.ask)
        monkeypatch.setattr(python, "_through_libpython", self.shared.__contains__)

    def ask(self, executable: Path, _: Sequence[str]) -> Interpreter | None:
        assert executable == self.other.executable
        self.asked += 1
        return self.answer

    def chosen(self) -> Interpreter:
        return python.find().interpreter


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def test_one_without_libpython_is_preferred_and_remembered(host: Host) -> None:
    assert [host.chosen(), host.chosen()] == [host.other, host.other]
    assert host.asked == 1


def test_one_that_was_replaced_is_asked_again(host: Host) -> None:
    host.chosen()
    os.utime(host.other.executable, (1, 1))
    host.chosen()
    assert host.asked == 2


def test_an_answer_to_other_questions_is_not_taken(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.chosen()
    (tmp_path / "interpreter.py").write_text("asks for more")
    monkeypatch.setattr(interpreter, "__file__", str(tmp_path / "interpreter.py"))
    host.chosen()
    assert host.asked == 2


def test_running_one_without_libpython_stays(host: Host) -> None:
    host.shared.clear()
    assert host.chosen() == OWN
    assert not host.asked


@pytest.mark.parametrize("what", ["no_answer", "other_byte_code", "libpython_too"])
def test_one_that_is_no_better_is_left(host: Host, what: str) -> None:
    if what == "no_answer":
        host.answer = None
    elif what == "other_byte_code":
        host.answer = replace(host.other, kind="cpython-311d")
    else:
        host.shared.add(host.other.executable)
    assert host.chosen() == OWN


def test_no_standard_library_lies_where_packages_are_looked_for() -> None:
    assert not {*python.find().path} & {*sys.path[:1], *OWN.folders}


def test_libpython_is_seen_in_what_a_program_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def needed(required: Path, optional: Sequence[Path]) -> tuple[set[str], set[Path]]:
        return {"/lib/libc.so.6", "/opt/lib/libpython3.99.so.1.0"} - absent, set()

    absent: set[str] = set()
    monkeypatch.setattr(libraries, "needed", needed)
    assert python._through_libpython(Path("/opt/bin/python3"))
    absent.add("/opt/lib/libpython3.99.so.1.0")
    assert not python._through_libpython(Path("/opt/bin/python3"))
