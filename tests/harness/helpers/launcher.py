# SPDX-License-Identifier: GPL-2.0-only
"""The launcher as a program, with a QEMU that is a script.

The script unpacks the image it is given for the run's nonce and plays a guest: it prints a
console, reports as init and pytest would, and ends, panics or hangs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.harness.helpers.images import bzimage
from vm import paths

#: Begins a script that plays QEMU: what it is asked for, and the stream it answers with.
GUEST = r"""#!{python}
import base64, json, os, signal, sys, zlib
from pathlib import Path
sys.path.insert(0, {root!r})
words = sys.argv
Path({folder!r}, "started-qemu").touch()
if "-initrd" not in words or "kvm" in words:
    sys.exit(1)
from tests.harness.helpers.archives import read
from tests.harness.helpers.stream import Stream

image = Path(words[words.index("-initrd") + 1]).read_bytes()
members = {{name: data for name, _, data in read(image)}}
assert list(members)[-1] == "vm/complete"
order = json.loads(members["vm/job.json"])
report = next(word for word in words if word.startswith("file:")).removeprefix("file:")
stream = Stream(order["nonce"])
kernel = Path(words[words.index("-kernel") + 1]).name
mode = os.environ.get("PLAY_" + kernel, os.environ["PLAY"])
print("[    0.0] Linux version 7.9.1", flush=True)
"""
#: Plays a run of three cases.
RUN = r"""
if mode == "silent hang":
    Path(os.environ["STARTED"]).write_text(str(os.getpid()))
    signal.pause()
if mode in ("reads", "writes"):
    with open(os.environ["MEETING"], mode[0]) as file:
        pass
if mode == "refuses":
    sys.exit("qemu: could not load kernel")
if mode == "early panic":
    print("[    1.0] Kernel panic - not syncing: No working init found.", flush=True)
    sys.exit(0)
if mode == "panics" and order["only"]:
    print("[    1.0] Kernel panic - not syncing: crash", flush=True)
    sys.exit(0)
if mode == "chooses nothing":
    stream.hello().end(5)
    with open(report, "wb") as file:
        file.write(stream.data)
    sys.exit(0)
if mode == "lacks the flag":
    stream.begin().case("t.py::one", "skipped", "no flag").end(0)
    with open(report, "wb") as file:
        file.write(stream.data)
    sys.exit(0)
stream.begin()
stream.add("text", "init", text="arguments: " + " ".join(order["arguments"]) + "\n")
for path, text in order["files"].items():
    stream.add("text", "init", text=f"{{path}} holds: {{text}}\n")
counters = Path({folder!r}, "gcda")
if order["coverage"] and counters.exists():
    data = base64.b64encode(zlib.compress(counters.read_bytes())).decode()
    stream.add("coverage", "init", path="somewhere/fs/namespace.gcda", data=data)
if mode == "share":
    first = words[words.index("-append") + 1].partition("vm.share=")[2][0] == "1"
    stream.case("t.py::one").case("t.py::three") if first else stream.case("t.py::two", "failed")
    stream.end(0 if first else 1)
    mode = "shared"
elif order["only"]:
    for name in order["only"]:
        stream.case(name)
    stream.end(0)
    mode = "shared"
else:
    stream.case("t.py::one")
if mode in ("panic", "panics"):
    stream.add("start", id="t.py::two", markers={{}})
    print("[    2.0] Kernel panic - not syncing: crash", flush=True)
    print("Call Trace:\n copy_tree+0x1/0x2\n caller+0x3/0x4", flush=True)
elif mode == "hang":
    stream.add("start", id="t.py::two", markers={{}})
elif mode == "fail":
    stream.case("t.py::two", "failed").end(1)
elif mode != "shared":
    stream.case("t.py::two").case("t.py::three").end(0)
with open(report, "wb") as file:
    file.write(stream.data)
if mode == "hang":
    signal.pause()
"""


def complaints(errors: str) -> str:
    """What is wrong, of the lines on standard error: the others tell what is going on."""
    lines = errors.splitlines(keepends=True)
    return "".join(line for line in lines if line.startswith(("vm: ", "hint: ")))


@dataclass
class Launcher:
    """Runs the launcher in surroundings of its own."""

    folder: Path
    environment: dict[str, str]

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def command(self, *words: str) -> list[str]:
        kernel = str(self.folder / "vmlinuz")
        guests = () if "--guests" in words else ("--guests", "1")
        return [sys.executable, "-m", "vm", "run", "--kernel", kernel, *guests, *words]

    def run(
        self, play: str, *words: str, command: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command or self.command("--output", str(self.folder / "out"), *words),
            cwd=paths.ROOT,
            env={**self.environment, "PLAY": play},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )


def make_launcher(tmp_path: Path, cache: Path, guest: str = RUN) -> Launcher:
    """A launcher with a script for QEMU that plays *guest*, and a kernel."""
    for name in ("bin", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "vmlinuz").write_bytes(bzimage())
    script = tmp_path / "bin/qemu-system-x86_64"
    script.write_text(
        (GUEST + guest).format(python=sys.executable, root=str(paths.ROOT), folder=str(tmp_path))
    )
    script.chmod(0o755)
    return Launcher(
        tmp_path,
        {
            **{k: v for k, v in os.environ.items() if k not in ("QEMU", "PYTEST_ADDOPTS")},
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path / "tmp"),
            "XDG_CACHE_HOME": str(cache),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "STARTED": str(tmp_path / "started"),
        },
    )
