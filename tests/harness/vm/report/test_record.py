# SPDX-License-Identifier: GPL-2.0-only
"""docs/kernels.md as it is made from a run's artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from vm.commands.main import main
from vm.errors import Exit

#: Kernels as the run had them: release -> fixes and rules; one of them did not boot.
FIX, OTHER = '0febe278ec45 ("a fix") (7.2.11)', '"another" (7.3)'
KERNELS: Mapping[str, Any] = {
    "7.3.4+deb13-amd64": ({FIX: "there", OTHER: "there"}, {"K6": "kept", "F1": "kept"}),
    "7.2.9+deb13-amd64": ({FIX: "lacking", OTHER: ""}, {"K6": "broken", "F1": "kept"}),
    "": ({FIX: "", OTHER: ""}, {"K6": "", "F1": ""}),
    "7.2.12+deb13-amd64": ({FIX: "there", OTHER: "lacking"}, {"K6": "kept", "F1": "kept"}),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The artefacts of such a run."""
    kernels = []
    for release in KERNELS:
        short = release.partition("+")[0]
        kernels.append(
            {
                "name": f"debian:trixie-backports={short}",
                "verdict": "9 passed" if release else "not booted",
                "compared": bool(release),
                "release": release,
                "folder": short,
            }
        )
        (tmp_path / short).mkdir(exist_ok=True)
        version = f"#1 SMP PREEMPT_DYNAMIC Debian {short}-1~bpo13+1 (2026-11-12)"
        summary = {
            "started": "2026-11-26T20:00:00+00:00",
            "environment": {"version": version},
        }
        (tmp_path / short / "summary.json").write_text(json.dumps(summary))
    rows = [
        [
            {word: name, "states": [found[which][name] for found in KERNELS.values()]}
            for name in all_
        ]
        for which, (word, all_) in enumerate((("fix", (FIX, OTHER)), ("id", ("K6", "F1"))))
    ]
    whole = {"suite": "0123456789ab", "kernels": kernels, "fixes": rows[0], "rules": rows[1]}
    (tmp_path / "matrix.json").write_text(json.dumps(whole))
    return tmp_path


def test_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["kernels", "--record", str(folder)]) == Exit.OK
    text = capsys.readouterr().out
    assert "these kernels: 2026-11-26, the suite at 0123456789ab.\n" in text
    kernel = "debian:trixie-backports=7.2.9"
    row = f"| 7.2.9+deb13-amd64 | `{kernel}` | 7.2.9-1~bpo13+1 | 2026-11-26 | 9 passed |"
    assert row in text
    assert "not booted" not in text
    assert (
        f"| fix | 7.2.9 | 7.2.12 | 7.3.4 |\n|---|---|---|---|\n| {FIX} | **no** | yes | yes |"
        in text
    )
    assert f"| {OTHER} | ? | **no** | yes |\n\nThe other 0 are there wherever a case tells." in text
    assert "| K6 | **no** | yes | yes |\n\nThe other 1 are kept wherever a case tells." in text
    older, newer = text.split("\n## From one kernel to the next\n")[1].split("\n**7.3.4**, ")
    assert older.startswith("\n**7.2.12**, other than 7.2.9:\n\n- has the fix 0febe278ec45")
    assert "- keeps the rule K6 (A foreign caller without AT_RECURSIVE" in older
    assert f"- tells of fixes that the other does not tell of: {OTHER}\n" in older
    assert newer == f"other than 7.2.12:\n\n- has the fix {OTHER}\n"


def test_a_rule_that_a_newer_kernel_breaks(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = json.loads((folder / "matrix.json").read_text())
    whole["rules"][1]["states"][0] = "broken"
    (folder / "matrix.json").write_text(json.dumps(whole))
    assert main(["kernels", "--record", str(folder)]) == Exit.OK
    assert "- breaks the rule F1 (" in capsys.readouterr().out.split("\n**7.3.4**, ")[1]


def test_what_is_no_such_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "7.2.9/summary.json").unlink()
    assert main(["kernels", "--record", str(folder)]) == Exit.USAGE
    assert "7.2.9/summary.json: No such file or directory\nhint: " in capsys.readouterr().err
    assert main(["kernels", "--record", str(folder / "none")]) == Exit.USAGE
    assert main(["kernels", "sid", "--record", str(folder)]) == Exit.USAGE
    assert capsys.readouterr().err.endswith("hint: give it alone\n")
