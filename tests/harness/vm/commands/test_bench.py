# SPDX-License-Identifier: GPL-2.0-only
"""``python3 -m vm bench``, with a QEMU that is a script: what is started, and how it ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.harness.helpers.launcher import make_launcher
from vm.errors import Exit

#: Plays a benchmark.
BENCH = r"""
stream.add("hello", "init", environment={{"release": "7.9.1"}})
said = " ".join([order["program"], order["user"], *order["arguments"]])
stream.add("text", "init", text=f"asked for: {{said}}\n")
there = sorted(n for n in members if n.startswith("vm/project/bench/") and n.endswith("/cli.py"))
stream.add("text", "init", text=f"has {{there}}\n")
if mode == "panic":
    print("[    2.0] Kernel panic - not syncing: crash", flush=True)
elif mode == "complains":
    print("[    2.0] WARNING: CPU: 0 PID: 1 at fs/namespace.c:1 x", flush=True)
if mode != "panic":
    if mode != "fails":
        stream.add("measured", results='{{"schema": 1}}')
    stream.end(1 if mode == "fails" else 0)
with open(report, "wb") as file:
    file.write(stream.data)
"""


@pytest.mark.parametrize(
    ("play", "status", "text"),
    [
        ("good", Exit.OK, "bench.json: all numbers"),
        ("fails", Exit.FAILED, "asked for"),
        ("panic", Exit.FAILED, "vm: Kernel panic - not syncing: crash"),
        ("complains", Exit.FAILED, "the kernel complained"),
    ],
)
def test_ends(play: str, status: Exit, text: str, tmp_path: Path, cache: Path) -> None:
    """The benchmark's words are passed on, its results are kept where it came to its end, and its
    status is the launcher's."""
    launcher = make_launcher(tmp_path, cache, BENCH)
    output = tmp_path / "out"
    kernel = ("--kernel", str(tmp_path / "vmlinuz"), "--output", str(output), "--user", "nobody")
    words = (*kernel, "--", "--quick", "--rounds", "3")
    done = launcher.run(play, command=[sys.executable, "-m", "vm", "bench", *words])
    assert "asked for: bench nobody --quick --rounds 3\n" in done.stdout
    assert "has ['vm/project/bench/cli.py']" in done.stdout
    assert text in done.stdout + done.stderr
    assert done.returncode == status
    assert (output / "console.log").read_text().startswith("[    0.0] Linux version")
    if play in ("good", "complains"):
        assert json.loads((output / "bench.json").read_text()) == {"schema": 1}
    else:
        assert not (output / "bench.json").exists()
