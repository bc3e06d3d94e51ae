# SPDX-License-Identifier: GPL-2.0-only
"""A fault in a real kernel, from the source to what noticed it. It takes as long as a kernel is
built, so that it must be asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vm import paths

ASKED = "TEST_FAULTS"


@pytest.mark.skipif(ASKED not in os.environ, reason=f"builds a kernel: {ASKED}=1 asks for it")
@pytest.mark.timeout(3600)
def test_a_planted_fault_is_noticed(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vm", "faults", "clone-and-namespace", "needs-nothing"]
    command += ["--output", str(tmp_path)]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    found = {row["result"]["fault"]: row["result"]["cases"] for row in rows if "result" in row}
    assert any("every_combination_of_known_bits" in case for case in found["clone-and-namespace"])
    assert any("test_privilege.py" in case for case in found["needs-nothing"])
    assert "2 of 2 (100.0%)" in (tmp_path / "evidence.md").read_text()
