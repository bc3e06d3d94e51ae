# SPDX-License-Identifier: GPL-2.0-only
"""A User-Mode Linux that is a script, with faults by number."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness.helpers.suite import ROOT
from vm.faults.catalogue import HAND, Edit, Fault
from vm.initramfs import python
from vm.initramfs.python import Runtime
from vm.kernel.image import Kernel, Kind
from vm.run.boot import Boots

#: Plays by the number of the fault: 1 fails in its rule, 2 in all cases alone, 3 nowhere,
#: 4 crashes, 5 hangs, 6 does not boot, 7 is not taken, 8 cannot be started.
PLAY = r"""#!{python}
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.harness.helpers.stream import Stream
words = dict(word.partition("=")[::2] for word in sys.argv[1:])
job = json.loads(Path(words["initrd"]).read_text())
number = int(words.get("planted", 0))
with open({log!r}, "a") as file:
    file.write(f"{{number}} {{' '.join(job['arguments'])}}\n")
if number == 8:
    sys.exit("no room")
if number and number != 7:
    print(f"[    0.0] planted fault {{number}}", flush=True)
print("[    0.1] Linux version 7.9.1", flush=True)
if number == 6:
    print("[    1.0] Kernel panic - not syncing: no root", flush=True)
    os.abort()
chosen = any(word.startswith("--rule") for word in job["arguments"])
stream = Stream(job["nonce"]).begin()
bad = number == 1 or (number == 2 and not chosen)
stream.case("t.py::one").case("t.py::four", "failed", "always so")
stream.case("t.py::five", "xfailed", "an open finding")
if number in (4, 5):
    stream.add("start", id="t.py::two", markers={{}})
else:
    stream.case("t.py::two", "failed" if bad else "passed", "expected EPERM" if bad else "")
    stream.end(1)
if number == 4:
    print("[    2.0] Kernel panic - not syncing: crash", flush=True)
os.write(int(words["ssl1"].rpartition(":")[2]), stream.data)
if number == 4:
    os.abort()
if number == 5:
    signal.pause()
"""


def fault(number: int, rule: str = "K1", kind: str = HAND) -> Fault:
    """Return the fault of this number."""
    rules = (rule,) if rule else ()
    edit = Edit("fs/namespace.c", "f", f"f{number}()", "0")
    return Fault(f"f{number}", "locks", kind, (edit,), "s", rules)


def played_kernel(tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel that plays; its initramfs is the job alone. What is booted goes to *log*:
    number, and pytest's arguments."""
    path = tmp_path / "linux.uml"
    path.write_text(PLAY.format(python=sys.executable, root=str(ROOT), log=str(log)))
    path.chmod(0o755)
    runtime = Runtime.__new__(Runtime)
    monkeypatch.setattr(python, "find", lambda _: runtime)
    monkeypatch.setattr(Runtime, "versions", {})
    monkeypatch.setattr(
        Boots, "image", lambda boots, job: _written(boots._folder / "initramfs", job.dumps())
    )
    return Kernel(path, Kind.UML, "7.9.1", "played")


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
