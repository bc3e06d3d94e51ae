# SPDX-License-Identifier: GPL-2.0-only
"""--build, with a make and a QEMU that are scripts: what make is asked for, and how a build and a
run after it can end. The configuration is test_build_options.py's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.archives import read
from tests.harness.helpers.building import Workshop
from tests.harness.helpers.images import CONFIGS, bzimage
from tests.harness.helpers.launcher import complaints
from vm import paths
from vm.arch import ARM64, X86_64
from vm.errors import Exit
from vm.kernel import kconfig


def test_a_tree_is_built_in_place_and_run(workshop: Workshop) -> None:
    workshop.configure()
    done = workshop.run()
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert "3 passed" in done.stdout.splitlines()[-1]
    assert [call[-1] for call in workshop.calls] == ["olddefconfig", "bzImage"]
    for call in workshop.calls:
        assert call[:3] == ["-C", str(workshop.source), "ARCH=x86"]
    log = (workshop.launcher.folder / "out/build.log").read_text()
    assert log.count("$ make -C") == 2


def test_a_tree_is_built_once_for_all_its_runs(workshop: Workshop) -> None:
    """The first run holds it: a second make would wait for that run's end."""
    workshop.configure()
    done = workshop.run("pass", "--repeat", "2")
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert [call[-1] for call in workshop.calls] == ["olddefconfig", "bzImage"]


@pytest.mark.parametrize(
    ("words", "arch", "target"),
    [((), "x86", "bzImage"), (("--backend", "uml"), "um", "linux")],
    ids=["qemu", "uml"],
)
def test_a_clean_source_is_built_in_the_cache_and_stays_clean(
    workshop: Workshop, cache: Path, words: tuple[str, ...], arch: str, target: str
) -> None:
    before = sorted(workshop.source.rglob("*"))
    workshop.run("pass", *words)
    assert sorted(workshop.source.rglob("*")) == before
    targets = ["x86_64_defconfig", "olddefconfig", target]
    assert [call[-1] for call in workshop.calls] == targets
    (output,) = {
        word.removeprefix("O=") for call in workshop.calls for word in call if "O=" in word
    }
    assert Path(output).is_relative_to(cache)
    assert all(f"ARCH={arch}" in call for call in workshop.calls)
    assert kconfig.read(Path(output) / ".config")["BY_DEFAULT"] == "y"
    shutil.rmtree(output)


def test_one_for_another_processor_is_built_by_a_cross_compiler_alone(workshop: Workshop) -> None:
    programs = workshop.launcher.folder / "bin"
    (programs / ARM64.processor.qemu).symlink_to(programs / X86_64.processor.qemu)
    workshop.launcher.environment["ARCH"] = ARM64.name
    done = workshop.run()
    assert not (workshop.launcher.folder / "calls").exists()
    first, second = done.stderr.splitlines()[-2:]
    assert first.startswith("vm: --build: an arm64 kernel: this machine's compiler is for ")
    assert second.startswith("hint: set CROSS_COMPILE=aarch64-linux-gnu-")
    workshop.launcher.environment["CROSS_COMPILE"] = "aarch64-linux-gnu-"
    workshop.run()
    assert [call[-1] for call in workshop.calls] == ["defconfig", "olddefconfig", "Image"]
    assert all("ARCH=arm64" in call for call in workshop.calls)


def test_a_tree_built_in_place_is_not_built_elsewhere(workshop: Workshop) -> None:
    workshop.configure()
    workshop.launcher.environment["KBUILD_OUTPUT"] = "/elsewhere"
    assert workshop.run().returncode == Exit.OK
    assert {environment["KBUILD_OUTPUT"] for environment in workshop.environments} == {""}


def test_an_output_folder_is_built_from_its_source(workshop: Workshop) -> None:
    output = workshop.launcher.folder / "objects"
    output.mkdir()
    (output / "source").symlink_to(workshop.source)
    (output / ".config").write_text(CONFIGS["x86"])
    workshop.launcher.environment["KBUILD_OUTPUT"] = "/elsewhere"
    done = Workshop(workshop.launcher, output).run()
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    for call in workshop.calls:
        assert call[:3] == ["-C", str(workshop.source), f"O={output}"]


@pytest.mark.parametrize("cross", ["", "aarch64-linux-gnu-"])
def test_the_compiler_is_ccache_where_there_is_one(workshop: Workshop, cross: str) -> None:
    workshop.configure()
    for name in ("ccache", f"{cross}gcc"):
        path = workshop.launcher.folder / "bin" / name
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    workshop.launcher.environment["CROSS_COMPILE"] = cross
    workshop.run()
    # By its place in PATH, not by CC=: that would compile everything anew.
    assert set(workshop.compilers) == {str(workshop.launcher.folder / "bin/ccache")}
    assert not any("CC=" in word for call in workshop.calls for word in call)


def test_ccache_stands_for_no_compiler_that_is_missing(workshop: Workshop) -> None:
    """So that make says which it is."""
    workshop.configure()
    path = workshop.launcher.folder / "bin/ccache"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    workshop.launcher.environment["CROSS_COMPILE"] = "vax-missing-"
    workshop.run()
    assert workshop.compilers
    assert str(path) not in workshop.compilers


def test_compilers_that_are_named_by_their_path_are_left_as_they_are(workshop: Workshop) -> None:
    workshop.configure()
    cross = workshop.launcher.folder / "cross/arm-gcc"
    cross.parent.mkdir()
    for path in (workshop.launcher.folder / "bin/ccache", cross):
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    workshop.launcher.environment["CROSS_COMPILE"] = str(cross).removesuffix("gcc")
    done = workshop.run()
    assert done.returncode == Exit.OK, done.stderr
    assert set(workshop.compilers) == {str(cross)}


def test_a_failed_build_shows_the_first_error_and_is_skipped(workshop: Workshop) -> None:
    workshop.configure()
    done = workshop.run(make="broken source")
    assert done.returncode == Exit.NOT_BOOTED
    lines = done.stderr[done.stderr.index("  fs/") :].splitlines()
    assert lines[0] == "  fs/namespace.c:7:1: error: expected ';' before 'return'"
    log = workshop.launcher.folder / "out/build.log"
    assert lines[-1] == f"vm: {workshop.source}: make bzImage failed; its output: {log}"
    assert "fs/namei.o" in log.read_text()


@pytest.mark.parametrize(
    ("play", "words", "status"),
    [
        ("pass", (), Exit.OK),
        ("fail", (), Exit.FAILED),
        ("panic", (), Exit.FAILED),
        ("hang", ("--run-limit", "0.5"), Exit.FAILED),
        ("early panic", (), Exit.NOT_BOOTED),
        ("refuses", (), Exit.NOT_BOOTED),
        ("pass", ("--waive", "/no/such"), Exit.NO_BISECTION),
        ("pass", ("--no-such-option",), Exit.NO_BISECTION),
        ("lacks the flag", (), Exit.NOT_BOOTED),
        ("chooses nothing", (), Exit.NO_BISECTION),
        ("pass", ("--backend", "uml"), Exit.NO_BISECTION),
    ],
)
def test_git_bisect_is_told_good_bad_skip_or_to_stop(
    workshop: Workshop, play: str, words: tuple[str, ...], status: Exit
) -> None:
    workshop.configure()
    done = workshop.run(play, *words)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("said", "status", "hint"),
    [
        ("fs/x.c:1: error: nonsense", Exit.NOT_BOOTED, ""),
        ("fs/x.c:1:10: fatal error: linux/gone.h: No such file or directory", Exit.NOT_BOOTED, ""),
        ("ld: final link failed: No space left on device", Exit.NO_BISECTION, "make room"),
        ("gcc: fatal error: Killed signal terminated program cc1", Exit.NO_BISECTION, "memory"),
        ("/bin/sh: 1: flex: not found", Exit.NO_BISECTION, "install what is missing"),
        ("/bin/sh: line 1: bison: command not found", Exit.NO_BISECTION, "install what"),
        ("scripts/K.include:40: C compiler 'x-gcc' not found", Exit.NO_BISECTION, "install what"),
        ("elf.h:9: fatal error: libelf.h: No such file or directory", Exit.NO_BISECTION, "install"),
    ],
)
def test_what_makes_a_build_fail_at_each_commit_ends_a_bisection(
    workshop: Workshop, said: str, status: Exit, hint: str
) -> None:
    workshop.configure()
    done = workshop.run(make=f"says {said}")
    assert done.returncode == status, done.stderr
    assert f"  {said}\n" in done.stderr
    last = complaints(done.stderr).splitlines()[-1]
    assert last.startswith("hint: ") == bool(hint)
    assert hint in last


def test_a_crash_comes_with_the_command_that_decodes_it(workshop: Workshop) -> None:
    workshop.configure()
    done = workshop.run("panic")
    tree, log = workshop.source, workshop.launcher.folder / "out/console.log"
    command = f"{tree}/scripts/decode_stacktrace.sh {tree}/vmlinux auto < {log}"
    assert f"as lines of the source: {command}\n" in done.stdout


MODULE = b"\0depends=\0"


def test_a_guest_is_given_the_modules_that_the_cases_need(workshop: Workshop) -> None:
    workshop.configure()
    (workshop.source / "modules.order").write_text("fs/overlay.o\nfs/other.o\n")
    (workshop.source / "fs").mkdir()
    for name in ("overlay", "other"):
        (workshop.source / f"fs/{name}.ko").write_bytes(MODULE)
    workshop.run()
    workshop.run("pass", "--dry-run")
    data = (workshop.launcher.folder / "out/initramfs.cpio").read_bytes()
    members = {name: contents for name, _, contents in read(data)}
    found = [name for name in members if name.endswith(".ko")]
    assert found == ["vm/modules/overlay.ko"]
    assert members[found[0]] == MODULE
    assert json.loads(members["vm/job.json"])["modules"] == ["/vm/modules/overlay.ko"]


def test_a_kernel_that_cannot_run_where_it_is_asked_to_is_not_built(workshop: Workshop) -> None:
    workshop.configure()
    done = workshop.run("pass", "--backend", "uml")
    assert (
        "configured as an x86 kernel: not for --backend uml\nhint: it runs with --backend qemu"
        in done.stderr
    )
    assert not (workshop.launcher.folder / "calls").exists()


@pytest.mark.parametrize("kernel", ["vmlinuz", "debian:sid", "host", "", "."])
def test_what_is_no_tree_cannot_be_built(workshop: Workshop, kernel: str) -> None:
    named = ["--kernel", kernel] if kernel else []
    command = [sys.executable, "-m", "vm", "run", "--build", *named]
    done = workshop.launcher.run("pass", command=command)
    assert done.returncode == Exit.NO_BISECTION
    first, second = done.stderr.splitlines()
    assert first.startswith("vm: ")
    assert ": not a build tree" in first
    assert second.startswith("hint: ")


def test_the_tree_one_stands_in_needs_no_name(workshop: Workshop) -> None:
    workshop.configure()
    environment = {**workshop.launcher.environment, "PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "vm", "run", "--build", "--guests", "1"],
        cwd=workshop.source,
        env={**environment, "PLAY": "pass", "MAKE_PLAYS": "build"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert f"building bzImage in {workshop.source} " in done.stderr


def test_an_interrupted_build_is_tidied_up_by_make(workshop: Workshop) -> None:
    workshop.configure()
    launcher = workshop.launcher
    os.mkfifo(launcher.folder / "started")
    process = subprocess.Popen(
        [sys.executable, "-m", "vm", "run", "--build", "--kernel", str(workshop.source)],
        cwd=paths.ROOT,
        env={**launcher.environment, "PLAY": "pass", "MAKE_PLAYS": "hang"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    make = int((launcher.folder / "started").read_text())
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    # Above 127: git bisect run ends, instead of building the next commit.
    assert process.returncode == Exit.INTERRUPTED
    assert complaints(errors) == "vm: interrupted (SIGINT)\n"
    assert not (workshop.source / "half.o").exists()
    with pytest.raises(ProcessLookupError):
        os.kill(make, 0)


@pytest.mark.parametrize("built", [True, False], ids=["built before", "not built yet"])
def test_a_dry_run_prints_makes_command_and_builds_nothing(workshop: Workshop, built: bool) -> None:
    workshop.configure()
    image = workshop.source / "arch/x86/boot/bzImage"
    if built:
        image.parent.mkdir(parents=True)
        image.write_bytes(bzimage())
    done = workshop.run("refuses", "--dry-run")
    assert done.returncode == Exit.OK, done.stderr
    make, boot = done.stdout.splitlines()  # and nothing else: it can be given to a shell
    assert make.startswith(
        f"make -C {workshop.source} ARCH=x86 KCONFIG_CONFIG=.config.open_tree_ns"
    )
    assert built or f" -kernel {image} " in boot
    assert not (workshop.launcher.folder / "calls").exists()
