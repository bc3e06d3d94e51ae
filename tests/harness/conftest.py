# SPDX-License-Identifier: GPL-2.0-only
"""What the harness tests share: a suite of isolated cases, written and run on the spot."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT, RunCases, SuiteRun

# Helpers of these tests are modules by other names than pytest's: their asserts hold under -O too.
pytest.register_assert_rewrite(
    *(f"tests.harness.helpers.{name}" for name in ("real_guest", "running", "story", "tap_reader"))
)

# Workers of a run inside a test get the path that xdist has kept since this process began: without
# the checkout when that was started as `pytest`.
with suppress(ImportError):
    from xdist.plugin import _sys_path

    if str(ROOT) not in _sys_path:
        _sys_path.insert(0, str(ROOT))


@pytest.fixture
def pytester(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """Run pytest with this project's modules at hand, and with no options of the environment's."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for name in ("PYTEST_ADDOPTS", "PYTEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    return pytester


@pytest.fixture
def run_cases(pytester: pytest.Pytester) -> RunCases:
    """Run the given source as a module of isolated cases, in this process."""

    def run(source: str, *arguments: str, header: str = HEADER) -> SuiteRun:
        pytester.makepyfile(header + source)
        result: Any = pytester.runpytest_inprocess(*PLUGIN, *arguments)
        calls = result.reprec.getcalls("pytest_runtest_logreport")
        warned = result.reprec.getcalls("pytest_warning_recorded")
        return SuiteRun(
            int(result.ret),
            [call.report for call in calls],
            [str(call.warning_message.message) for call in warned],
            result.stdout.str() + result.stderr.str(),
        )

    return run


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that everybody can reach and write to, with a path that suits a socket."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)
