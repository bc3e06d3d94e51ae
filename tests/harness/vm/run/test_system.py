# SPDX-License-Identifier: GPL-2.0-only
"""Complete systems: what is asked for, building them, the guest they get; booting none."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests.harness.helpers.archives import read
from tests.harness.helpers.launcher import Launcher, make_launcher
from vm import paths
from vm.backend.base import Boot, Machine
from vm.backend.uml import Uml
from vm.commands.arguments import parse
from vm.distro import apt, archive
from vm.errors import Exit, Problem
from vm.guest.disturb import COMMANDS
from vm.kernel.image import Kernel, Kind
from vm.run import plan, system
from vm.run.system import System

Usage = namedtuple("Usage", "total used free")
#: What a user who is not root owns files of others with.
MAPPING = ("newuidmap", "newgidmap")


@pytest.fixture
def launcher(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Launcher:
    """A launcher whose cache has a system, an empty file."""
    cache = tmp_path_factory.getbasetemp() / "system-cache"
    cache.mkdir(exist_ok=True)
    launcher = make_launcher(tmp_path, cache)
    disk = cache / paths.NAME / "systems" / system.disk("trixie").parent.name / "root.ext4"
    disk.parent.mkdir(parents=True, exist_ok=True)
    disk.touch()
    return launcher


def members(launcher: Launcher, *words: str) -> tuple[str, dict[str, bytes]]:
    """The command of a dry run with these words, and what is in its image."""
    done = launcher.run("pass", "--dry-run", *words)
    assert done.returncode == 0, done.stderr
    image = (launcher.folder / "out/initramfs.cpio").read_bytes()
    # Of two files by one name the later one counts.
    return done.stdout, {name: data for name, _, data in read(image)}


# --- what is asked for ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "suite"),
    [("debian", "trixie"), ("debian:trixie", "trixie"), ("debian:forky", "forky")],
)
def test_a_system_is_a_distribution_and_a_suite(text: str, suite: str) -> None:
    assert system.parse(text) == suite
    assert str(System(suite)) == f"debian:{suite}"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--system", "fedora:42"), "--system fedora:42: not a system that can be built here"),
        (("--system", "debian:"), "debian[:SUITE]"),
        (("--system", "debian/cloud-amd64"), "debian[:SUITE]"),
        (("--beside", "login"), "--beside needs --system"),
        (("--checkout", "/"), "--checkout needs --system"),
        (("--user", "user"), "--user user: an initramfs has no such account"),
        (("--system", "debian", "--checkout", "/proc"), "no tests/open_tree_ns there"),
        (("--system", "debian", "--backend", "virtme-ng"), "virtme-ng"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(
    launcher: Launcher, words: tuple[str, ...], said: str
) -> None:
    done = launcher.run("pass", *words)
    assert done.returncode == Exit.USAGE, done.stdout + done.stderr
    assert said in done.stderr
    assert re.search("^hint: ", done.stderr, re.M)
    assert "Traceback" not in done.stderr


def test_an_unknown_disturber_is_refused_with_those_that_are_known(launcher: Launcher) -> None:
    done = launcher.run("pass", "--system", "debian", "--beside", "login,storm")
    assert done.returncode == Exit.USAGE
    assert all(name in done.stderr for name in ("storm", "all", *COMMANDS))


def test_all_stands_for_every_disturber_and_the_help_names_each(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert parse(["run", "--beside", "all"]).beside == tuple(COMMANDS)
    with pytest.raises(SystemExit):
        parse(["run", "--help"])
    text = capsys.readouterr().out
    assert all(re.search(rf"^ .*\b{name}  ", text, re.M) for name in COMMANDS)


# --- the guest -----------------------------------------------------------------------------------


def test_a_system_is_a_disk_that_is_not_changed_in_a_larger_guest(launcher: Launcher) -> None:
    line, _ = members(launcher, "--system", "debian:trixie")
    assert re.search(r"file=\S+/root\.ext4,format=raw,if=none,id=root,snapshot=on\b", line)
    assert "-m 2048M -smp 2 " in line
    assert "cgroup_disable" not in line
    line, _ = members(launcher, "--system", "debian:trixie", "--memory", "900", "--cpus", "1")
    assert "-m 900M -smp 1 " in line
    line, _ = members(launcher)
    assert "root.ext4" not in line
    assert "-m 1024M -smp 1 " in line


def test_user_mode_linux_writes_beside_the_disk(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "linux", Kind.UML, "7.9.1", "here")
    machine = Machine(disk=tmp_path / "root.ext4")
    made = Uml().command(Boot(kernel, tmp_path / "image", "fd:3", machine, tmp_path / "scratch"))
    assert f"ubd0={tmp_path}/scratch/written,{tmp_path}/root.ext4" in made.arguments


def test_pytest_is_the_systems_own_and_plain(launcher: Launcher) -> None:
    words = ("--system", "debian", "--user", "user", "--beside", "login,suite", "--", "-n", "2")
    _, files = members(launcher, *words)
    order = json.loads(files["vm/job.json"])
    assert order["arguments"] == ["--color=no", "-n", "2", "tests/open_tree_ns"]
    assert order["suite"] == ["-p", "no:cacheprovider", *order["arguments"]]
    assert (order["user"], order["beside"]) == ("user", ["login", "suite"])
    assert not {"PATH", "HOME", "USER", "PYTHONPATH"} & set(order["environment"])
    assert "vm/checkout/tests/open_tree_ns/test_handle.py" in files
    assert not [name for name in files if name.startswith("vm/checkout") and "__pycache__" in name]
    assert b"switch_root" not in files["init"].splitlines()[0]
    assert b"/sbin/init" in files["init"]
    assert b"service.py" in files["vm/service"]


def test_what_runs_in_the_system_needs_nothing_of_the_launchers_more(
    launcher: Launcher, tmp_path: Path
) -> None:
    _, files = members(launcher, "--system", "debian")
    prefix = "vm/launcher/vm/"
    folder = tmp_path / "launcher/vm"
    (folder / "guest").mkdir(parents=True)
    for name in files:
        if name.startswith(prefix) and name.endswith(".py"):
            (folder / name.removeprefix(prefix)).write_bytes(files[name])
    (folder / "init.py").write_bytes(files["init"])
    code = (
        f"import sys; sys.path[:0] = [{str(folder.parent)!r}, {str(paths.ROOT)!r}];"
        " import vm; assert vm.__file__.startswith(sys.path[0]);"
        " import vm.init, vm.guest.service, vm.guest.disturb, vm.guest.init, vm.guest.channel"
    )
    command = [sys.executable, "-IS", "-c", code]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("older", [False, True])
def test_another_checkout_runs_with_what_reports_its_cases(
    launcher: Launcher, tmp_path: Path, older: bool
) -> None:
    other = tmp_path / "other"
    mine = ("guest_report", "guest_system") if older else ("guest/reporter", "guest/service")
    for name in ("tests/open_tree_ns/test_it.py", *(f"vm/{name}.py" for name in mine)):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text("from vm.guest_channel import Channel")
    _, files = members(launcher, "--system", "debian", "--checkout", str(other))
    reporter = files["vm/launcher/vm/guest/reporter.py"]
    assert reporter == b"from vm.guest.channel import Channel"
    assert "vm/checkout/tests/open_tree_ns/test_it.py" in files
    assert b"class Disturbers" in files["vm/launcher/vm/guest/service.py"]
    assert not [name for name in files if name.startswith("vm/checkout/tests/utils")]


def test_the_modules_that_make_the_disk_come_first() -> None:
    assert system.MODULES[:2] == ("virtio_blk", "ext4")
    assert {"overlay", "fuse"} <= set(system.MODULES)


def test_repetitions_are_compared(launcher: Launcher) -> None:
    done = launcher.run("pass", "--system", "debian", "--repeat", "2")
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert "all 3 cases are alike" in done.stdout
    whole = json.loads((launcher.folder / "out/matrix.json").read_text())
    assert [kernel["name"].rpartition(" ")[2] for kernel in whole["kernels"]] == ["#1", "#2"]
    assert len({kernel["folder"] for kernel in whole["kernels"]}) == 2


def test_a_system_is_one_guest_unless_more_are_asked_for(launcher: Launcher) -> None:
    words = list(launcher.command("--system", "debian", "--dry-run"))
    at = words.index("--guests")
    done = launcher.run("pass", command=[*words[:at], *words[at + 2 :]])
    assert done.stdout.count("-initrd") == 1


# --- building ------------------------------------------------------------------------------------


@pytest.fixture
def building(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No apt, and the folder for programs that takes the place of PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cp", "cat", "printf", "dd", "env"):
        (folder / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(system, "_SBIN", str(folder))
    monkeypatch.setattr(archive, "source", lambda suite: f"deb http://mirror {suite} main")
    monkeypatch.setattr(apt, "own_sites", lambda: [("http://mirror", "trixie", "main")])
    monkeypatch.setattr(apt.Apt, "update", lambda *_: None)
    monkeypatch.setattr(apt.Apt, "package", lambda _, name: apt.Package(name, "1", 1))
    monkeypatch.setattr(apt.Apt, "unpack", lambda *_: None)
    program(folder, "mke2fs", "")
    program(folder, "unshare", 'shift; exec "$@"')
    for name in MAPPING:
        program(folder, name, "")
    return folder


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_built_system_is_kept(building: Path) -> None:
    program(
        building, "perl", 'printf found | dd of="$DISK" conv=notrunc 2>/dev/null; echo "$@" >&2'
    )
    old = [system.disk("trixie").parent.with_name(f"debian-{end}") for end in ("trixie-1", "sid-1")]
    for folder in old:
        folder.mkdir(parents=True)
    path = system.obtain("trixie")
    assert path == system.disk("trixie")
    assert [folder.exists() for folder in old] == [False, True]
    with path.open("rb") as file:
        assert file.read(6) == b"found\0"
    assert path.stat().st_blocks * 512 < path.stat().st_size / 100  # a hole is kept as one
    program(building, "perl", "exit 1")
    assert system.obtain("trixie") == path
    assert sorted(entry.name for entry in building.parent.iterdir()) == ["bin", "cache"]


def test_a_system_that_cannot_be_built_is_not_kept(building: Path) -> None:
    program(building, "perl", "echo I: begun >&2; echo E: no such package >&2; exit 25")
    with pytest.raises(Problem, match=r"E: no such package\nhint: ") as caught:
        system.obtain("trixie")
    assert caught.value.status is Exit.HOST
    assert not system.disk("trixie").exists()
    assert sorted(entry.name for entry in building.parent.iterdir()) == ["bin", "cache"]


@pytest.mark.parametrize("name", ["perl", "mke2fs", "unshare"])
def test_a_missing_program_is_named_with_its_package(building: Path, name: str) -> None:
    program(building, "perl", "exit 1")
    (building / name).unlink()
    with pytest.raises(Problem, match=rf"{name} is missing\nhint: install "):
        system.obtain("trixie")


def test_who_may_not_own_files_is_told_what_is_needed(
    building: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(building, "perl", "exit 1")
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(Problem, match="exited with status 1"):
        system.obtain("trixie")
    for name in MAPPING:
        (building / name).unlink()
    with pytest.raises(Problem, match=r"(?s)newuidmap.*\nhint: install uidmap"):
        system.obtain("trixie")


def test_a_full_disk_is_told_before_anything_is_fetched(
    building: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(building, "perl", "exit 1")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(Problem, match=r"(?s)0\.0 MB free.*\nhint: make room"):
        system.obtain("trixie")


def test_there_is_no_system_unless_it_is_asked_for() -> None:
    assert plan.Options().system is None
