# SPDX-License-Identifier: GPL-2.0-only
"""The ready-made metadata: results reach tmt and LAVA as they are, and both read the files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.helpers.cases import CASES
from tests.harness.helpers.suite import ROOT
from tests.utils.report.case import Case
from tests.utils.report.junit import Document

PROGRAM = ROOT / "contrib/results.py"
#: Outcome -> the words of tmt and LAVA.
WORDS = {
    "passed": ("pass", "pass"),
    "failed": ("fail", "fail"),
    "error": ("error", "fail"),
    "timeout": ("error", "fail"),
    "skipped": ("skip", "skip"),
    "xfailed": ("pass", "pass"),
    "xpassed": ("pass", "pass"),
}
NASTY = [Case(f"t.py::x[{name}]", "passed") for name in ("a b", "a/b", "'; exit #", "\u00e9", "")]
#: Stands in for LAVA's program.
FAKE = '#!/bin/sh\nprintf "%s|" "$@" >> "$NOTE"\necho >> "$NOTE"\n'


def report(folder: Path, cases: list[Case]) -> Path:
    """A JUnit report with *cases*."""
    document = Document()
    for case in cases:
        document.add(case)
    path = folder / "junit.xml"
    with path.open("w", encoding="utf-8") as file:
        document.write(file, name="suite", properties={}, stamp="2026-01-02T03:04:05Z")
    return path


def convert(system: str, path: Path) -> str:
    """What the program prints."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), system, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def in_tmt(path: Path) -> list[dict[str, Any]]:
    """The results for tmt."""
    found: list[dict[str, Any]] = json.loads(convert("tmt", path))
    return found


def in_lava(path: Path) -> list[tuple[str, str]]:
    """The results that LAVA's program is told, by a shell."""
    folder = path.parent / "bin"
    folder.mkdir()
    (folder / "lava-test-case").write_text(FAKE)
    (folder / "lava-test-case").chmod(0o755)
    note = path.parent / "note"
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "NOTE": str(note)}
    subprocess.run(
        ["sh", "-e"], input=convert("lava", path), text=True, env=environment, check=True
    )
    calls = [line.split("|") for line in note.read_text().splitlines()]
    assert all((option, end) == ("--result", "") for _, option, _, end in calls)
    return [(name, word) for name, _, word, _ in calls]


def test_each_outcome_has_its_word(tmp_path: Path) -> None:
    path = report(tmp_path, CASES)
    words = [WORDS[case.outcome] for case in CASES]
    assert {case.outcome for case in CASES} == set(WORDS)
    found = in_tmt(path)
    assert [one["result"] for one in found] == [word for word, _ in words]
    assert found[1]["note"] == ["AssertionError: no"]
    assert all(re.fullmatch(r"\d\d:[0-5]\d:[0-5]\d", one["duration"]) for one in found)
    assert found[0]["name"] == "/tests.a.test_x.test_pass"
    assert [word for _, word in in_lava(path)] == [word for _, word in words]


def test_names_are_plain_and_unique(tmp_path: Path) -> None:
    path = report(tmp_path, NASTY)
    names = [name for name, _ in in_lava(path)]
    assert names[:2] == ["t.x-a-b", "t.x-a-b_dup2"]
    assert len(set(names)) == len(NASTY)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", name) for name in names)
    assert [one["name"] for one in in_tmt(path)] == [f"/{name}" for name in names]


@pytest.mark.parametrize("text", [None, "", "<testsuites><testsuite>", "<testsuites/>"])
def test_a_run_that_came_to_nothing_is_bad(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "junit.xml"
    if text is not None:
        path.write_text(text)
    assert [(one["name"], one["result"]) for one in in_tmt(path)] == [("/run", "error")]
    assert in_lava(path) == [("run", "fail")]


def test_a_wrong_command_line_is_told() -> None:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "other"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "usage: results.py tmt|lava JUNIT\n"


# --- the files: read by tmt itself, in an environment of its own (tox -e metadata) ----------------


def test_tmt_takes_its_file(tmp_path: Path) -> None:
    pytest.importorskip("tmt", reason="tmt is not installed (tox -e metadata has it)")
    program = Path(sys.executable).with_name("tmt")
    done = subprocess.run(
        [str(program), "--root", str(ROOT), "lint"],
        env={**os.environ, "TMT_WORKDIR_ROOT": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout + done.stderr
    assert done.returncode == 0, text
    assert not re.findall(r"^(?:fail|warn) .*", text, re.M), text
    assert "/contrib/tmt/cases" in text
    assert "/contrib/tmt/plan" in text


def test_lava_finds_what_it_needs() -> None:
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader (tox -e metadata has it)")
    found = yaml.YAML(typ="safe").load((ROOT / "contrib/lava.yaml").read_text())
    assert set(found) == {"metadata", "install", "run"}
    metadata = found["metadata"]
    assert metadata["format"] == "Lava-Test Test Definition 1.0"
    assert re.fullmatch(r"[a-z0-9-]+", metadata["name"])
    for name in ("os", "scope"):
        assert all(isinstance(word, str) for word in metadata[name])
    assert all(isinstance(step, str) for step in found["run"]["steps"])
    assert all(isinstance(name, str) for name in found["install"]["deps"])


def test_the_steps_for_lava_end_in_a_result_for_each_case(tmp_path: Path) -> None:
    yaml = pytest.importorskip("ruamel.yaml", reason="no YAML reader (tox -e metadata has it)")
    steps = yaml.YAML(typ="safe").load((ROOT / "contrib/lava.yaml").read_text())["run"]["steps"]
    for name, text in {"python3": f'exec {sys.executable} "$@"', "lava-test-case": FAKE}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text.removeprefix('#!/bin/sh')}\n")
        (tmp_path / name).chmod(0o755)
    note = tmp_path / "note"
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "NOTE": str(note),
        "TMPDIR": str(tmp_path),
        "PYTEST_ADDOPTS": "-k test_every_unknown_bit",
    }
    subprocess.run(
        ["sh", "-e"],
        input="\n".join(steps),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert note.read_text().startswith("tests.open_tree_ns.test_flags.")
