# SPDX-License-Identifier: GPL-2.0-only
"""Many cases: no report is lost.

The number is small here. For a run of 10,000, which takes some minutes:

    OPEN_TREE_NS_CASES=10000 pytest --timeout=3600 tests/harness/utils/isolation/test_scale.py
"""

from __future__ import annotations

import os
from collections import Counter
from xml.etree import ElementTree

import pytest

import conftest as root_conftest

pytest.importorskip("xdist")

CASES = int(os.environ.get("OPEN_TREE_NS_CASES", "300"))
SUITE = f"""
import pytest
@pytest.mark.isolated
@pytest.mark.parametrize("n", range({CASES}))
def test(n): pass
"""
#: Counts the reports.
COUNTER = """
from pathlib import Path
count = 0
def pytest_runtest_logreport():
    global count
    count += 1
def pytest_sessionfinish(session):
    if not hasattr(session.config, "workerinput"): Path("total").write_text(str(count))
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_many_cases(pytester: pytest.Pytester, workers: int) -> None:
    plugins = (f"-p{name}" for name in root_conftest.pytest_plugins if name != "pytester")
    (pytester.path / "waive.toml").write_text("")
    pytester.makepyfile(test_many=SUITE)
    pytester.makeconftest(COUNTER)
    pytester.makeini("[pytest]\nmarkers = isolated\n")
    done = pytester.runpytest_subprocess(
        *("-pno:cacheprovider", "-q", f"-n{workers}", *plugins),
        *("--ktap=out.ktap", "--junitxml=out.xml", "--waive=waive.toml"),
    )
    folder = pytester.path
    assert done.parseoutcomes() == {"passed": CASES}
    assert (folder / "total").read_text() == str(3 * CASES)
    lines = (folder / "out.ktap").read_text().splitlines()
    names = Counter(line.split()[2] for line in lines if line.startswith("ok "))
    assert names == {f"test_many.py::test[{n}]": 1 for n in range(CASES)}
    cases = [case.get("name") for case in ElementTree.parse(folder / "out.xml").iter("testcase")]
    assert sorted(map(str, cases)) == sorted(f"test[{n}]" for n in range(CASES))
