# SPDX-License-Identifier: GPL-2.0-only
"""What a container's limits leave of a machine: read from made-up hierarchies, and from real ones
where root may make a group."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.plan import default_creators
from tests.harness.helpers.cgroup import group
from tests.harness.helpers.suite import ROOT
from tests.utils import cgroups
from vm.backend.base import Machine
from vm.kernel import build
from vm.kernel.tree import Tree
from vm.run import plan

#: Of /proc/self/mountinfo: both versions side by side, as systemd has mounted them for long.
V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
V1 = (
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)
MEBI = 1 << 20


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def machine(root: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """A root with these files below /sys/fs/cgroup, and 32 GiB available."""
    proc = root / "proc/self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(groups)
    (proc / "mountinfo").write_text(mounts)
    (root / "proc/meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable:   {32 << 20} kB\nX: 1\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def memory(limit: int, usage: int = 100 * MEBI, cached: int = 50 * MEBI) -> dict[str, str]:
    return {
        "memory.max": f"{limit}\n",
        "memory.current": f"{usage}\n",
        "memory.stat": f"anon 1\ninactive_file {cached}\n",
    }


@pytest.mark.parametrize(
    ("files", "processors"),
    [
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, 16),
        ({"pod/cpu.max": "300000 100000\n", "cpu.max": "max 100000\n"}, 3),
        ({"pod/cpu.max": "max 100000\n", "pod/one/cpu.max": "100000 100000\n"}, 1),
        ({"other/cpu.max": "100000 100000\n"}, 16),
        ({"cpu.max": "what is this\n"}, 16),
        ({}, 16),
    ],
)
def test_the_least_quota_of_the_groups_above_counts(
    tmp_path: Path, files: Mapping[str, str], processors: int
) -> None:
    root = machine(tmp_path, "0::/pod/one\n", V2, files)
    assert cgroups.processors(root) == processors


def test_a_container_sees_its_own_group_as_the_top(tmp_path: Path) -> None:
    root = machine(tmp_path, "0::/\n", V2, {"cpu.max": "100000 100000\n", **memory(900 * MEBI)})
    assert cgroups.processors(root) == 1
    # What is cached can be given up.
    assert cgroups.memory(root) == 850 * MEBI


def test_the_first_version_of_groups_counts_as_well(tmp_path: Path) -> None:
    groups = "9:cpu,cpuacct:/box\n4:memory:/docker/box\n0::/\n"
    files = {
        "cpu,cpuacct/box/cpu.cfs_quota_us": "400000\n",
        "cpu,cpuacct/box/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        # Mounted in the container: what Docker made for it.
        "memory/memory.limit_in_bytes": f"{700 * MEBI}\n",
        "memory/memory.usage_in_bytes": f"{200 * MEBI}\n",
    }
    root = machine(tmp_path, groups, V1.format(top="/docker/box"), files)
    assert (cgroups.processors(root), cgroups.memory(root)) == (4, 500 * MEBI)


def test_processes_that_were_killed_for_want_of_memory_are_counted_in_the_group(
    tmp_path: Path,
) -> None:
    events = {"pod/memory.events": "low 0\noom 5\noom_kill 3\n", "memory.events": "oom_kill 9\n"}
    assert cgroups.oom_kills(machine(tmp_path / "two", "0::/pod\n", V2, events)) == 3
    first = {"memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}
    assert (
        cgroups.oom_kills(machine(tmp_path / "one", "4:memory:/\n", V1.format(top="/"), first)) == 2
    )
    root = machine(tmp_path / "none", "0::/\n", V2, {})
    assert cgroups.oom_kills(root) == 0
    (root / "proc/vmstat").write_text("nr_free_pages 1\noom_kill 7\n")
    assert cgroups.oom_kills(root) == 7


def test_without_a_limit_there_is_what_the_machine_has(tmp_path: Path) -> None:
    assert cgroups.memory(machine(tmp_path, "0::/\n", V2, {"memory.max": "max\n"})) == 32 << 30
    assert cgroups.memory(tmp_path / "no-proc") > 1 << 60
    assert cgroups.processors(tmp_path / "no-proc") == 16


def test_guests_makes_and_creators_are_as_many_as_that_allows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = Tree(Path("/o"), Path("/s"), "x86")

    def found(processors: int, mebibytes: int) -> tuple[int, int, str, int]:
        monkeypatch.setattr(cgroups, "processors", lambda: processors)
        monkeypatch.setattr(cgroups, "memory", lambda: mebibytes * MEBI)
        (jobs,) = (word for word in build.command(tree, "t", "c") if word.startswith("-j"))
        one = plan.default_jobs(1, Machine())
        return plan.default_guests(()), one, jobs, max(default_creators())

    assert found(16, 32768) == (4, 16, "-j16", 32)
    assert found(1, 32768) == (1, 1, "-j1", 2)
    assert found(16, 2500) == (2, 2, "-j4", 32)
    assert found(16, 100) == (1, 1, "-j1", 32)
    monkeypatch.setattr(cgroups, "memory", lambda: 1100 * MEBI)
    assert plan.default_guests((), 1, 256) == 4


# --- real groups ----------------------------------------------------------------------------------


def ask(folder: Path, question: str) -> int:
    """Return the answer of a process in the group *folder*."""
    code = (
        f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()));"
        f" from tests.utils import cgroups; print(cgroups.{question}())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_a_real_quota_of_processors() -> None:
    with group("cpu", cpu__cfs_period_us="100000", cpu__cfs_quota_us="100000") as folder:
        assert ask(folder, "processors") == 1


def test_a_real_limit_of_memory() -> None:
    with group("memory", memory__limit_in_bytes=str(300 * MEBI)) as folder:
        assert 100 * MEBI < ask(folder, "memory") <= 300 * MEBI
