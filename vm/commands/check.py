# SPDX-License-Identifier: GPL-2.0-only
"""`python3 -m vm check`: the project's own tests, as tox.ini lists them, the guest's included.

tox comes from the project's development requirements in a private virtual environment; its work
folder lies in the cache. The checkout is only read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from vm import paths
from vm.errors import Exit
from vm.initramfs import python


def tally(reports: Iterable[Path]) -> Counter[str]:
    """Return cases per outcome over JUnit reports, in pytest's words."""
    counts: Counter[str] = Counter()
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            kinds = {child.tag: child for child in case}
            if "error" in kinds:
                counts["error"] += 1
            elif "failure" in kinds:
                counts["failed"] += 1
            elif "skipped" in kinds:
                expected = kinds["skipped"].get("type") == "pytest.xfail"
                counts["xfailed" if expected else "skipped"] += 1
            else:
                counts["passed"] += 1
    return counts


def closing_line(counts: Counter[str], seconds: float) -> str:
    """Return the sum of all runs in the form of pytest's last line."""
    order = ("failed", "passed", "skipped", "xfailed", "error")
    text = ", ".join(f"{counts[name]} {name}" for name in order if counts[name]) or "no tests ran"
    return f" {text} in {seconds:.2f}s ".center(80, "=")


def _settings() -> dict[str, str]:
    """The environment for tox: nothing of a tox or virtual environment around this one."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TOX_", "VIRTUAL_ENV"))}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}


def check(words: Sequence[str]) -> Exit:
    """Run tox with *words* as further arguments, then print what all its tests come to."""
    begin = time.monotonic()
    environment = python.environment(python.requirements("dev"))
    key = hashlib.sha256(str(paths.ROOT).encode()).hexdigest()[:16]
    work = paths.cache() / "tox" / key
    for name in ("junit", "vm", "system"):
        shutil.rmtree(work / name, ignore_errors=True)  # an earlier run's
    command = [
        *(str(environment / "bin/tox"), "run", "--conf", str(paths.ROOT / "tox.ini")),
        *("--workdir", str(work), *words),
    ]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, cwd=paths.ROOT, env=_settings(), process_group=0
    )
    try:
        status = process.wait()
    finally:
        if process.poll() is None:
            # tox stops its commands, and they their guests, on the polite signal.
            process.terminate()
            process.wait()
    guests = [*(work / "vm").glob("junit.xml"), *(work / "system").rglob("junit.xml")]
    counts = tally([*sorted((work / "junit").glob("*.xml")), *guests])
    print(closing_line(counts, time.monotonic() - begin), flush=True)
    return Exit.OK if status == 0 else Exit.FAILED
