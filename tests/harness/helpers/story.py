# SPDX-License-Identifier: GPL-2.0-only
"""A session run as a guest runs it, what each reader makes of its reports, and the tables."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import conftest
from tests.harness.helpers.kernel import stand_in
from tests.harness.helpers.suite import ROOT
from tests.harness.helpers.tap_reader import results as tap_results
from vm.guest.protocol import MARK
from vm.report.summary import Summary
from vm.report.verdict import Verdict, combine, judge
from vm.run.guest import Ending, Stop
from vm.run.stream import Records

#: A kernel tree whose kunit.py is to read the reports as well.
TREE = "OPEN_TREE_NS_LINUX"
RESULTS = ROOT / "vm/RESULTS.md"
WAIVERS = '[[waive]]\ncase = "test_story.py::test_waived"\nreason = "known"\n'
#: What process 1 of a guest does, less the guest.
RUNNER = """
import sys
from vm.guest.channel import Channel
from vm.guest.protocol import Kind
from vm.guest.reporter import run
init = Channel(int(sys.argv[1]), "N", "init")
init.send(Kind.HELLO, environment={"release": "7.9.1"}, started={"python": 0.1})
status = run(sys.argv[2:], Channel(int(sys.argv[1]), "N", "pytest"))
init.send(Kind.END, status=status)
sys.exit(status)
"""
OPTIONS = (
    *(f"-p{name}" for name in conftest.pytest_plugins if name != "pytester"),
    *("-p", "no:cacheprovider", "-rA", "-v", "--continue-on-collection-errors"),
    *("--waive=waive.toml", "--ktap=pytest.ktap", "--junitxml=pytest.xml"),
)


@dataclass(frozen=True)
class Session:
    """A session that is over, and what it has left."""

    #: With the plugins' reports (pytest.*) and the guest's.
    folder: Path
    terminal: str
    status: int
    verdict: Verdict
    summary: dict[str, Any]


def has_subtests(config: pytest.Config) -> bool:
    """Whether the installed pytest, or the plugin pytest-subtests, has the fixture."""
    return config.pluginmanager.has_plugin("subtests")


def run(folder: Path, source: str, *options: str, **modules: str) -> Session:
    """Run *source* and further *modules* in *folder* as a guest does."""
    for name, text in {"test_story": source, **modules}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    stand_in(folder)
    (folder / "pytest.ini").write_text("[pytest]\naddopts =\n")
    (folder / "waive.toml").write_text(WAIVERS)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    stream = folder / "stream"
    with stream.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(file.fileno()), *OPTIONS, *options],
            cwd=folder,
            env={**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "LANG": "C.UTF-8"},
            pass_fds=[file.fileno()],
            capture_output=True,
            text=True,
            check=False,
        )
    records = Records("N")
    records.feed(stream.read_bytes())
    records.close()
    assert records.lost == 0
    verdict = combine([judge(records, Ending(Stop.EXITED, 0, "", 1), [])])
    written = Summary(
        verdict=verdict.text,
        incomplete=verdict.incomplete,
        started="2026-01-02T03:04:05+00:00",
        kernel="given",
        backend="none",
        environment=records.environment,
    )
    written.write(folder, verdict.cases)
    summary = json.loads((folder / "summary.json").read_text())
    said = (done.stdout + done.stderr).replace(MARK, "")  # as the launcher does
    return Session(folder, said, done.returncode, verdict, summary)


# --- what each reader makes of a session: the case's id -> the table's words for it --------------

Words = dict[str, str]


def terminal(session: Session, _prefix: str) -> Words:
    """The words of `-v`; those of the summary for modules. That subtests pass is of no interest."""
    word, percent = r"([A-Z]+)(?:\[\w+\])?(?: \(.*?\))?", r"\[ *\d+%\]"
    found = defaultdict(list)
    for pattern, name, verb in (
        (rf"^(\S+\.py::.+?) {word} +{percent}$", 1, 2),
        (rf"^\[gw\d\] {percent} {word} (\S+\.py::.+?) ?$", 2, 1),
        (r"^([A-Z]+) (?:\[1\] )?(\w+\.py)(?:$|:1: | - )", 2, 1),
    ):
        for match in re.finditer(pattern, session.terminal, re.M):
            if match[verb] != "SUBPASSED":
                found[match[name]].append(match[verb])
    return {name: ", ".join(words) for name, words in found.items()}


def ktap(session: Session, prefix: str) -> Words:
    """The result lines as they stand there."""
    text = (session.folder / f"{prefix}.ktap").read_text()
    lines = re.findall(
        r"^((?:not )?ok) \d+ (.*?)( # [A-Z]+)?(?: # time=\d+ms| [^#]*)?$", text, re.M
    )
    return {name: verdict + directive for verdict, name, directive in lines}


def tap_py(session: Session, prefix: str) -> Words:
    """What tap.py takes the results for."""
    found = tap_results((session.folder / f"{prefix}.ktap").read_text())
    words = {True: "ok", False: "not ok"}
    return {
        name: "skip" if directive.startswith("SKIP") else words[good]
        for name, (good, directive) in found.items()
    }


def kunit_json(session: Session, prefix: str) -> dict[str, Any]:
    """What the kernel's own tool reads; skips without a kernel tree."""
    tree = os.environ.get(TREE)
    if not tree:
        pytest.skip(f"no kernel tree to take tools/testing/kunit/kunit.py from: {TREE} is not set")
    out = session.folder / f"{prefix}.kunit.json"
    program = Path(tree, "tools/testing/kunit/kunit.py").resolve(strict=True)
    done = subprocess.run(
        [
            *(sys.executable, str(program), "parse", f"--json={out}"),
            str(session.folder / f"{prefix}.ktap"),
        ],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.exists(), done.stdout + done.stderr
    assert done.returncode == 1
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def kunit(session: Session, prefix: str) -> Words:
    """What kunit.py takes the results for."""
    cases = kunit_json(session, prefix)["test_cases"]
    return {case["name"]: case["status"] for case in cases}


def junit(session: Session, prefix: str) -> Words:
    """The element of each case, and its type where it says more."""
    found = {}
    plain = {"failure": "failed", "error": "error", "skipped": "pytest.skip"}
    for case in ElementTree.parse(session.folder / f"{prefix}.xml").iter("testcase"):
        kinds = [
            child.tag
            if child.get("type") == plain[child.tag]
            else f"{child.tag} ({child.get('type')})"
            for child in case
            if child.tag != "properties"
        ]
        names = (case.get("classname", ""), case.get("name", ""))
        module = f"{names[0]}.py"
        found[module if names[0] == names[1] else f"{module}::{names[1]}"] = ", ".join(kinds)
    return found


def summary(session: Session, _prefix: str) -> Words:
    """The outcomes."""
    return {case["id"]: case["outcome"] for case in session.summary["cases"]}


READERS: dict[str, Callable[[Session, str], Words]] = {
    "terminal": terminal,
    "KTAP": ktap,
    "tap.py": tap_py,
    "kunit.py": kunit,
    "JUnit": junit,
    "summary.json": summary,
}
#: The files of the plugins, and those of the guest.
PREFIXES = {"KTAP": ("pytest", "results"), "JUnit": ("pytest", "junit")}
PREFIXES |= {"tap.py": PREFIXES["KTAP"], "kunit.py": PREFIXES["KTAP"]}


def table(first: str) -> list[dict[str, str]]:
    """The rows of the table in RESULTS.md whose first column has the heading *first*."""
    lines = RESULTS.read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]
