# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm shell`: what a guest is given for it, and when it is refused.

That a prompt comes and a script runs is seen in vm/guests.
"""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from tests.harness.helpers.archives import read
from tests.harness.helpers.launcher import Launcher
from vm.errors import Exit, Problem
from vm.initramfs import python, shell_tools


def test_the_shell_goes_along_with_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    members = {
        name: (mode, data)
        for name, mode, data in read(shell_tools.archive(python.find()).read_bytes())
    }

    def followed(name: str) -> bytes:
        mode, data = members[name]
        if stat.S_ISLNK(mode):
            return followed(data.decode().strip("/"))
        assert mode & 0o111
        return data

    for name in ("bin/sh", shell_tools.shell().strip("/"), "usr/bin/ls", "usr/bin/mount"):
        assert followed(name)[:4] == b"\x7fELF"
    assert followed("usr/local/bin/pytest").startswith(b"#!/usr/bin/sh\n")
    loaders = [name for name in members if "ld-linux" in name or "ld-musl" in name]
    assert loaders


def test_a_machine_without_a_shell_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shell_tools, "_FOLDERS", ())
    with pytest.raises(Problem, match="no bash and no sh on PATH"):
        shell_tools.shell()


@pytest.mark.parametrize("words", [(), ("--", "-k", "x")])
def test_without_terminal_and_script_it_says_what_to_do(
    launcher: Launcher, words: tuple[str, ...]
) -> None:
    command = [*launcher.command()[:3], "shell", "--kernel", str(launcher.folder / "vmlinuz")]
    done: subprocess.CompletedProcess[str] = launcher.run("pass", command=[*command, *words])
    assert done.returncode == Exit.USAGE
    first, *hints = done.stderr.splitlines()
    assert first.startswith("vm: shell: takes no command" if words else "vm: shell: no terminal")
    assert [hint[:6] for hint in hints] == ["hint: "]
