# SPDX-License-Identifier: GPL-2.0-only
"""The configuration that --build builds with: the developer's own, what the cases need, and
fragments."""

from __future__ import annotations

import os
import shutil
import sys

import pytest

from tests.harness.helpers.building import Workshop
from tests.harness.helpers.images import CONFIGS
from tests.harness.helpers.launcher import complaints
from vm.errors import Exit
from vm.kernel import kconfig


def test_the_developers_configuration_is_left_alone(workshop: Workshop) -> None:
    text = f"{CONFIGS['x86']}CONFIG_MINE=y\n# CONFIG_OVERLAY_FS is not set\nCONFIG_TMPFS=y\n"
    workshop.configure(text)
    done = workshop.run()
    assert (workshop.source / ".config").read_text() == text
    used = kconfig.read(workshop.source / ".config.open_tree_ns")
    assert (used["MINE"], used["OVERLAY_FS"]) == ("y", "y")
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("options changed"))
    assert " OVERLAY_FS," in line
    assert " TMPFS," not in line
    assert "FUSE_FS" not in line
    assert "kconfig dropped these options: FUSE_FS (" in done.stderr
    left = {path.name for path in workshop.source.iterdir() if path.name.startswith(".config")}
    assert left == {".config", ".config.open_tree_ns"}


def test_make_sees_that_the_options_are_others_again(workshop: Workshop) -> None:
    """It compares the times of the configuration and of what it last built with."""
    workshop.configure()
    theirs, ours = workshop.source / ".config", workshop.source / ".config.open_tree_ns"
    built = workshop.source / "include/config/auto.conf"
    os.utime(theirs, (1, 1))
    workshop.run()
    assert ours.stat().st_mtime_ns <= built.stat().st_mtime_ns <= theirs.stat().st_mtime_ns
    # The developer builds. Nothing of ours changes, and yet it is what is to be built with next.
    os.utime(ours, (1, 1))
    shutil.copyfile(theirs, built)
    workshop.run()
    assert ours.stat().st_mtime > 1
    # And again, with nothing in between: no time changes, and make has nothing to do.
    os.utime(ours, (1, 1))
    workshop.run()
    assert ours.stat().st_mtime == 1


def test_a_configuration_that_comes_out_the_same_is_kept(workshop: Workshop) -> None:
    workshop.configure()
    workshop.run()
    before = (workshop.source / ".config.open_tree_ns").stat().st_ino
    workshop.run()
    assert (workshop.source / ".config.open_tree_ns").stat().st_ino == before


def test_the_debugging_options_last_for_one_run(workshop: Workshop) -> None:
    workshop.configure()
    config = workshop.source / ".config.open_tree_ns"
    workshop.run("pass", "--debug-kernel")
    assert kconfig.read(config)["KASAN"] == "y"
    workshop.run()
    assert "KASAN" not in kconfig.read(config)


def test_fragments_of_the_users_are_built_with_and_what_does_not_stick_is_named(
    workshop: Workshop,
) -> None:
    workshop.configure(f"{CONFIGS['x86']}CONFIG_TMPFS=y\n")
    one, two = (workshop.launcher.folder / name for name in ("one", "two"))
    one.write_text("# why\n\nCONFIG_MINE=y\nCONFIG_FUSE_FS=m\nCONFIG_NUMBER=10\n")
    two.write_text('CONFIG_NUMBER=20\nCONFIG_TEXT="a b"\n# CONFIG_TMPFS is not set\n')
    done = workshop.run("pass", "--kconfig", str(one), "--kconfig", str(two))
    assert done.returncode == Exit.OK, done.stderr
    used = kconfig.read(workshop.source / ".config.open_tree_ns")
    wanted = {"MINE": "y", "NUMBER": "20", "TEXT": '"a b"', "TMPFS": "n"}
    assert {name: used.get(name) for name in wanted} == wanted
    first, second = complaints(done.stderr).splitlines()
    assert first == f"vm: --kconfig {one}: did not stick: CONFIG_FUSE_FS (wanted m, is n)"
    assert second.startswith("hint: ")
    # For one run, and nothing is said of options that the user has changed.
    assert "dropped" not in done.stderr
    workshop.run()
    assert "MINE" not in kconfig.read(workshop.source / ".config.open_tree_ns")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("", "no option in it"),
        ("# nothing\n", "no option in it"),
        ("CONFIG_A=y\nA=y\n", ":2: not an option: A=y"),
        ("CONFIG_A y\n", ":1: not an option"),
        ("CONFIG_A=yes\n", ":1: not an option"),
        ("CONFIG_A=y # why\n", ":1: not an option"),
        ("\xff", "not a text"),
    ],
)
def test_what_is_no_fragment_is_a_usage_error(
    workshop: Workshop, text: str | None, words: str
) -> None:
    workshop.configure()
    fragment = workshop.launcher.folder / "fragment"
    if text is not None:
        fragment.write_bytes(text.encode("latin-1"))
    done = workshop.run("pass", "--kconfig", str(fragment))
    assert done.returncode == Exit.NO_BISECTION
    assert done.stderr.startswith(f"vm: --kconfig {fragment}")
    assert words in done.stderr.splitlines()[0]
    assert not (workshop.launcher.folder / "calls").exists()


def test_debugging_options_without_a_build_are_a_usage_error(workshop: Workshop) -> None:
    done = workshop.launcher.run("pass", "--debug-kernel")
    assert done.returncode == Exit.USAGE
    assert "--debug-kernel needs --build\nhint: " in done.stderr
    done = workshop.launcher.run("pass", "--kconfig", "x")
    assert done.returncode == Exit.USAGE
    assert "--kconfig needs --build\nhint: " in done.stderr


def test_a_tree_that_was_built_without_what_the_cases_need_says_so(workshop: Workshop) -> None:
    workshop.configure()
    workshop.run()
    launcher = workshop.launcher
    command = [sys.executable, "-m", "vm", "run", "--kernel", str(workshop.source)]
    done = launcher.run("pass", command=[*command, "--guests", "1"])
    assert done.returncode == Exit.OK
    assert "built without FUSE_FS: cases may be skipped" in done.stderr
