# SPDX-License-Identifier: GPL-2.0-only
"""The guest's root file system: archive format, byte code, shared libraries."""

from __future__ import annotations

import importlib.util
import io
import marshal
import os
import stat
import sys
from pathlib import Path
from types import CodeType

import pytest

from tests.harness.helpers.archives import read
from vm.errors import Problem
from vm.initramfs import bytecode, cpio, libraries, rootfs


def members(data: bytes) -> dict[str, tuple[int, bytes]]:
    return {name: (mode, contents) for name, mode, contents in read(data)}


def test_what_was_added_is_read_back() -> None:
    stream = io.BytesIO()
    archive = cpio.Archive(stream)
    for size in range(5):
        archive.file(f"/a/{size}", b"x" * size, 0o640)
    archive.symlink("/lib64/ld.so", "/lib/ld.so")
    archive.device("/dev/null", 1, 3)
    archive.close()
    found = members(stream.getvalue())
    for size in range(5):
        assert found[f"a/{size}"] == (stat.S_IFREG | 0o640, b"x" * size)
    assert found["lib64/ld.so"] == (stat.S_IFLNK | 0o777, b"/lib/ld.so")
    assert found["dev/null"] == (stat.S_IFCHR | 0o600, b"")
    assert len(stream.getvalue()) % 4 == 0


def test_a_device_number_stands_in_the_rdev_fields() -> None:
    stream = io.BytesIO()
    archive = cpio.Archive(stream)
    archive.device("console", 5, 1)
    fields = [int(stream.getvalue()[6 + 8 * n : 14 + 8 * n], 16) for n in range(13)]
    assert fields[9:11] == [5, 1]


def test_folders_come_before_what_lies_in_them_and_once() -> None:
    stream = io.BytesIO()
    archive = cpio.Archive(stream)
    archive.file("/a/b/one", b"")
    archive.file("/a/b/two", b"")
    archive.file("/a/b/one", b"again")
    archive.close()
    assert [name for name, _, _ in read(stream.getvalue())] == [*("a", "a/b", "a/b/one", "a/b/two")]


def test_archives_that_follow_one_another_are_one_image() -> None:
    stream = io.BytesIO()
    for name in ("first", "second"):
        archive = cpio.Archive(stream)
        archive.file(name, b"12345")
        archive.close()
    assert set(members(stream.getvalue())) == {"first", "second"}


def test_garbage_is_no_archive() -> None:
    with pytest.raises(ValueError, match="no newc header at byte 0"):
        list(read(b"x" * 200))


def test_byte_code_is_valid_whatever_the_time_stamps(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("def f():\n    return 42\n")
    raw = bytecode.pyc(source, "/guest/module.py")
    assert raw[:4] == importlib.util.MAGIC_NUMBER
    assert int.from_bytes(raw[4:8], "little") == 0b01  # hash-based, not checked: PEP 552
    assert raw[8:16] == importlib.util.source_hash(source.read_bytes())
    code = marshal.loads(raw[16:])
    assert isinstance(code, CodeType)
    assert code.co_filename == "/guest/module.py"


def test_stale_byte_code_of_the_host_is_not_taken(tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text("VALUE = 1\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir(parents=True)
    stale = marshal.dumps(compile("VALUE = 2", str(source), "exec"))
    info = source.stat()
    size = info.st_size.to_bytes(4, "little")
    for stamp, value in ((int(info.st_mtime), 2), (int(info.st_mtime) - 5, 1)):
        header = importlib.util.MAGIC_NUMBER + bytes(4) + stamp.to_bytes(4, "little") + size
        cached.write_bytes(header + stale)
        scope: dict[str, object] = {}
        exec(marshal.loads(bytecode.code_bytes(source, str(source))), scope)
        assert scope["VALUE"] == value


def test_pytest_takes_the_rewritten_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text("def test_it():\n    value = 1\n    assert value == 2\n")
    os.utime(source, (bytecode.MTIME, bytecode.MTIME))
    path = [entry for entry in sys.path if entry]
    found = bytecode.rewritten({str(source): source}, Path(sys.executable), path)
    for name, data in found.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(data)
    from _pytest.assertion import rewrite

    (name,) = found
    assert name.endswith(rewrite.PYC_TAIL)
    code = rewrite._read_pyc(source, Path(name))
    assert code is not None
    assert code.co_filename == str(source)
    assert "@pytest_ar" in code.co_names


def test_a_file_that_is_no_python_goes_without_byte_code(tmp_path: Path) -> None:
    source = tmp_path / "template.py"
    source.write_text("def {{ name }}:\n")
    stream = io.BytesIO()
    archive = cpio.Archive(stream)
    rootfs.add_python(archive, "/x/template.py", source)
    assert archive.names == {"x", "x/template.py"}


def test_the_project_part_has_cases_and_no_byte_code(tmp_path: Path) -> None:
    (tmp_path / "tests/open_tree_ns/__pycache__").mkdir(parents=True)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "tests/open_tree_ns/test_a.py").touch()
    (tmp_path / "tests/open_tree_ns/__pycache__/test_a.pyc").touch()
    assert set(rootfs.project_files(tmp_path)) == {
        "/vm/project/pyproject.toml",
        "/vm/project/tests/open_tree_ns/test_a.py",
    }


LDD = """/usr/bin/one:
\tlinux-vdso.so.1 (0x00007ffd)
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)
\t/lib64/ld-linux-x86-64.so.2 (0x00007f01)
/usr/lib/two.so:
\tlibgone.so.1 => not found
\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f00)
/usr/lib/three.so:
\tstatically linked
"""


def test_ldd_output_is_understood() -> None:
    found = libraries.parse_ldd(LDD, "/usr/bin/one")
    libc, loader = "/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"
    assert found["/usr/bin/one"] == ({libc, loader}, set())
    assert found["/usr/lib/two.so"] == ({libc}, {"libgone.so.1"})
    assert found["/usr/lib/three.so"] == (set(), set())


def test_ldd_gives_no_heading_for_a_single_file() -> None:
    text = "".join(f"{line}\n" for line in LDD.splitlines()[1:4])
    assert libraries.parse_ldd(text, "only")["only"][0]


def test_the_interpreter_comes_with_its_loader_and_libc() -> None:
    paths, dropped = libraries.needed(Path(sys.executable).resolve(), [])
    assert not dropped
    assert any("libc." in path for path in paths)
    assert all(os.path.exists(path) for path in paths)


def fake_ldd(folder: Path, output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "output").write_text(output)
    (folder / "ldd").write_text(f"#!/bin/sh\ncat {folder}/output\n")
    (folder / "ldd").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_an_extension_without_its_library_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ldd(tmp_path, LDD, monkeypatch)
    optional = [Path("/usr/lib/two.so"), Path("/usr/lib/three.so")]
    paths, dropped = libraries.needed(Path("/usr/bin/one"), optional)
    assert dropped == {Path("/usr/lib/two.so")}
    assert len(paths) == 2


def test_an_interpreter_without_its_library_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ldd(tmp_path, LDD, monkeypatch)
    with pytest.raises(Problem, match=r"two\.so needs libgone\.so\.1"):
        libraries.needed(Path("/usr/lib/two.so"), [])
