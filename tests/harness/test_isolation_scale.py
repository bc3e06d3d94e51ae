# SPDX-License-Identifier: GPL-2.0-only
"""Many cases: no report is lost, and no process grows with their number while they run.

The number is small here. For a run of 10,000, which takes some minutes:

    OPEN_TREE_NS_CASES=10000 pytest --timeout=3600 tests/harness/test_isolation_scale.py
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest

import conftest as root_conftest
from tests.harness.conftest import ROOT

pytest.importorskip("xdist")

CASES = int(os.environ.get("OPEN_TREE_NS_CASES", "300"))
SUITE = f"""
import pytest
@pytest.mark.isolated
@pytest.mark.parametrize("n", range({CASES}))
def test(n): pass
"""
#: What a case may add to a process, in bytes. pytest alone keeps 2,000 where cases run, and in a
#: controller of pytest-xdist 7,000.
LIMIT = 100
#: Notes in each process, every so many cases, how much memory it has in use.
METER = """
import gc, json, tracemalloc
from pathlib import Path

tracemalloc.start()

class Meter:
    def __init__(self, name, step):
        self.cases = self.reports = 0
        self.name, self.step = name, step
        self.notes = Path(f"{name}.notes").open("w", buffering=1)

    def pytest_runtest_logreport(self, report):
        self.reports += 1
        if report.when == "teardown":
            self.cases += 1
            if self.cases % self.step == 0:
                self.note()

    def pytest_sessionfinish(self):
        Path(f"{self.name}.total").write_text(str(self.reports))

    def note(self):
        gc.collect()
        status = Path("/proc/self/status").read_text()
        note = {
            "cases": self.cases,
            "used": tracemalloc.get_traced_memory()[0],
            "resident": 1024 * int(status.partition("VmRSS:")[2].split()[0]),
        }
        print(json.dumps(note), file=self.notes)

def pytest_configure(config):
    worker = getattr(config, "workerinput", None)
    name = worker["workerid"] if worker else "main"
    config.pluginmanager.register(Meter(name, CASES // 10))
"""


def notes(folder: Path, process: str) -> list[dict[str, int]]:
    """What the meter of a process has noted."""
    return [json.loads(line) for line in (folder / f"{process}.notes").read_text().splitlines()]


def growth(folder: Path, process: str, what: str) -> float:
    """What a case has added on average, those at the beginning left out."""
    first, *_, last = notes(folder, process)
    return (last[what] - first[what]) / (last["cases"] - first["cases"])


def run(pytester: pytest.Pytester, name: str, *options: str) -> Path:
    """Run the suite in a folder of its own."""
    folder = pytester.mkdir(name)
    (folder / "test_many.py").write_text(SUITE)
    (folder / "conftest.py").write_text(METER.replace("CASES", str(CASES)))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = isolated\n")
    os.chdir(folder)
    done = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", *options)
    os.chdir(pytester.path)
    assert done.parseoutcomes() == {"passed": CASES}
    for notes in folder.glob("*.notes"):
        # Shown on request (-rP).
        rates = {what: round(growth(folder, notes.stem, what)) for what in ("used", "resident")}
        print(f"{name} {notes.stem}: bytes per case: {rates}")
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_many_cases(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    plugins = (f"-p{name}" for name in root_conftest.pytest_plugins if name != "pytester")
    (pytester.path / "waive.toml").write_text("")
    folder = run(
        pytester,
        "isolated",
        f"-n{workers}",
        *plugins,
        *("--ktap=out.ktap", "--junitxml=out.xml", "--waive=../waive.toml"),
    )
    # Nothing is lost.
    assert (folder / "main.total").read_text() == str(3 * CASES)
    lines = (folder / "out.ktap").read_text().splitlines()
    names = Counter(line.split()[2] for line in lines if line.startswith("ok "))
    assert names == {f"test_many.py::test[{n}]": 1 for n in range(CASES)}
    cases = [case.get("name") for case in ElementTree.parse(folder / "out.xml").iter("testcase")]
    assert sorted(map(str, cases)) == sorted(f"test[{n}]" for n in range(CASES))
    # Nothing is kept.
    for process in ("main", *(f"gw{n}" for n in range(workers))):
        assert growth(folder, process, "used") < LIMIT


@pytest.mark.parametrize("workers", [0, 2])
def test_the_meter_sees_what_pytest_keeps(pytester: pytest.Pytester, workers: int) -> None:
    folder = run(pytester, "plain", f"-n{workers}")
    for process in ("main", *(f"gw{n}" for n in range(workers))):
        assert growth(folder, process, "used") > 10 * LIMIT
