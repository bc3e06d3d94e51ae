# SPDX-License-Identifier: GPL-2.0-only
"""A case is charged with the mounts and mount namespaces that it leaves behind, and no others."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.harness.helpers.callers import user_namespaces
from tests.harness.helpers.strangers import run_pytest
from tests.harness.helpers.suite import HEADER, PLUGIN

pytestmark = pytest.mark.usefixtures("alone")
WORKERS = pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
PLUGINS = (
    *PLUGIN,
    "-p",
    "tests.utils.watch.leak_plugin",
    "-p",
    "tests.utils.probes.plugin",
    "-p",
    "tests.utils.report.markers",
)
CASE = f"""{HEADER}
pytestmark = [pytest.mark.isolated, pytest.mark.fixed_by("0123456789ab", "7.9", "vfs: be right")]
machines_pids = pytest.mark.isolated(pid_namespace=False)
from pathlib import Path
from tests.harness.helpers import strangers
from tests.harness.helpers.strangers import empty, namespace, younger
from tests.utils.tasks.case_name import tmpfs_source
from tests.utils.uapi.constants import CLONE_NEWNS, MNT_DETACH, MS_BIND
from tests.utils.uapi.syscalls import mount, pivot_root, setns, umount2
FOLDER = Path(__file__).parent
def parent(pid): return int(Path(f"/proc/{{pid}}/stat").read_text().rpartition(")")[2].split()[1])
def pytest_process(): return parent(os.getppid())
def enter(pid): setns(os.open(f"/proc/{{pid}}/ns/mnt", os.O_RDONLY), CLONE_NEWNS)
def ask(*words):
    print("namespace", number := strangers.ask(FOLDER / "stranger", *words))
    return number
def ask_family(*words):
    name = os.environ["OPEN_TREE_NS_CASE"]
    print("namespace", strangers.ask(FOLDER / name, *words))
"""
#: Has each process of pytest fork a program.
CONFTEST = """
import os, signal
from pathlib import Path
from tests.harness.helpers.strangers import fork_stranger
pids = []
def pytest_configure(): pids.append(fork_stranger(Path(__file__).parent / f"case-{os.getpid()}"))
def pytest_unconfigure():
    for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
"""


def runs(
    folder: Path,
    source: str,
    *arguments: str,
    conftest: str = "",
    count: int = 1,
    as_user: bool = False,
) -> list[str]:
    """Return what *count* runs of the cases in *source* print (see run_pytest())."""
    (folder / "test_it.py").write_text(CASE + source)
    (folder / "conftest.py").write_text(CONFTEST + conftest)
    return run_pytest(folder, *PLUGINS, *arguments, "test_it.py", count=count, as_user=as_user)


def failed(text: str) -> dict[str, str]:
    """Return the cases that have failed, with the reason of each."""
    return dict(re.findall(r"^(?:FAILED|ERROR) test_it\.py::test_(\w+) - (.*)$", text, re.M))


def section(text: str, case: str) -> str:
    """Return the part of *text* on the failure of a case."""
    parts = re.split(r"^_{3,} .*\btest_(\w+) _{3,}$", text.partition("= short test")[0], flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[case]


# --- mounts ---------------------------------------------------------------------------------------

MOUNTS = """
def test_first(): pass
@machines_pids
def test_mounts(): enter(pytest_process()); mount(tmpfs_source(), "/sys", "tmpfs")
def test_between(scratch): mount(tmpfs_source(), scratch, "tmpfs")
@machines_pids
def test_mounts_without_a_name():
    (FOLDER / "point").mkdir(); enter(pytest_process()); mount("another", FOLDER / "point", "tmpfs")
def test_somebody_mounts(): ask("mount /sys")
@machines_pids
def test_undoes():
    enter(pytest_process())
    mount(tmpfs_source(), "/mnt", "tmpfs"); umount2("/mnt", MNT_DETACH)
@machines_pids
def test_mounts_in_the_root(): enter(os.getppid()); mount("another", "/mnt", "tmpfs")
def test_last(): pass
"""


@WORKERS
def test_mounts_outside_of_its_own_namespaces_are_charged_to_a_case(
    folder: Path, workers: tuple[str, ...]
) -> None:
    user_namespaces()
    (text,) = runs(folder, MOUNTS, *workers)
    reason = "the case changed mounts outside of its own namespaces"
    assert failed(text) == {"mounts": reason, "mounts_in_the_root": reason}, text
    assert re.search(
        r"^\+ .* / /sys rw,relatime - tmpfs case-\d+ rw", section(text, "mounts"), re.M
    )
    root = section(text, "mounts_in_the_root")
    assert re.search(r"^\+ .* / /mnt rw,relatime - tmpfs another rw", root, re.M)


UNMOUNTS = """
@machines_pids
def test_mounts(): enter(pytest_process()); mount(tmpfs_source(), "/sys", "tmpfs")
@machines_pids
def test_unmounts(): enter(pytest_process()); umount2("/sys", MNT_DETACH)
@machines_pids
def test_unmounts_in_the_root(): enter(os.getppid()); umount2("/etc", MNT_DETACH)
"""


def test_mounts_that_have_gone_are_charged_to_a_case(folder: Path) -> None:
    user_namespaces()
    (text,) = runs(folder, UNMOUNTS)
    assert failed(text).keys() == {"mounts", "unmounts", "unmounts_in_the_root"}, text
    for case, point in (("unmounts", "/sys"), ("unmounts_in_the_root", "/etc")):
        assert re.search(rf"^- .* {point} ", section(text, case), re.M)


def test_no_commit_is_named_for_what_a_case_leaves(folder: Path) -> None:
    """A case's own failure names it, whatever is found besides."""
    user_namespaces()
    source = """
@machines_pids
def test_mounts(): enter(pytest_process()); mount(tmpfs_source(), "/sys", "tmpfs")
@machines_pids
def test_mounts_and_fails():
    enter(pytest_process()); mount(tmpfs_source(), "/proc", "tmpfs"); assert 0
"""
    (text,) = runs(folder, source)
    assert "pytest 'test_it.py::test_mounts'" in section(text, "mounts")
    assert "vfs: be right" not in section(text, "mounts"), text
    assert "a kernel without this fix fails here" in section(text, "mounts_and_fails"), text
    assert "mounts and namespaces after the case" in section(text, "mounts_and_fails")


# --- mount namespaces -----------------------------------------------------------------------------

NAMESPACES = """
def test_first(): pass
def test_queued(): ask("queue", namespace())
def test_held_by_another_program(): ask("hold", namespace())
def test_held_by_the_run(): ask_family("hold", namespace())
def test_held_by_both():
    fd = namespace(); ask("hold", os.dup(fd)); ask_family("hold", fd)
def test_made_by_another_program(): (FOLDER / "id").write_text(ask("make"))
@machines_pids
def test_bound():
    fd = younger(os.open(f"/proc/{pytest_process()}/ns/mnt", os.O_RDONLY))
    (FOLDER / f"bound-{os.getpid()}").touch()
    enter(pytest_process())
    mount(f"/proc/self/fd/{fd}", FOLDER / f"bound-{os.getpid()}", None, MS_BIND)
def test_bound_in_one_that_is_left():
    older = namespace(); held = younger(older)
    target = FOLDER / f"bound-{time.monotonic_ns()}"; target.touch()
    setns(older, CLONE_NEWNS); mount(f"/proc/self/fd/{held}", target, None, MS_BIND)
    ask("queue", older)
def test_lets_go(): namespace()
def test_somebody_mounts(): ask("mount /sys")
def test_last(): pass
"""
LEFT = "the case left 1 mount namespace behind"
CHARGED = {
    "queued": LEFT,
    "held_by_the_run": LEFT,
    "held_by_both": LEFT,
    "bound": LEFT,
    "bound_in_one_that_is_left": "the case left 2 mount namespaces behind",
}


def told(text: str) -> list[str]:
    """Return the ids of namespaces that nobody is charged with; other programs' are among them."""
    found = re.findall(r"^mount namespaces that have .*another program's\): (.*)$", text, re.M)
    return [number for line in found for number in line.split(", ")]


def charged(text: str) -> list[str]:
    """Return the ids of namespaces that cases are charged with."""
    return re.findall(r"^mount namespace (\d+), held by ", text, re.M)


@pytest.mark.usefixtures("sight")
@WORKERS
def test_namespaces_are_charged_to_the_case_that_leaves_them(
    folder: Path, workers: tuple[str, ...]
) -> None:
    (text,) = runs(folder, NAMESPACES, *workers)
    assert failed(text) == CHARGED, text
    number = r"mount namespace (\d+), held by "
    nothing = "nothing that /proc or a mount table shows"
    assert re.search(number + nothing, section(text, "queued"))
    held = re.compile(number + r"descriptor \d+ of process \d+ \(.+\)$", re.M)
    for case in ("held_by_the_run", "held_by_both"):
        assert held.search(section(text, case))
    assert re.search(number + r"a mount that process \d+ sees$", section(text, "bound"), re.M)
    both = section(text, "bound_in_one_that_is_left")
    assert re.search(number + r"a mount in namespace \d+$", both, re.M)
    assert "vfs: be right" not in text
    # Of what another program has made nobody knows.
    assert (folder / "id").read_text() in told(text)
    assert not {*charged(text)} & {*told(text)}


@pytest.mark.usefixtures("sight")
def test_blank_namespaces_are_charged_when_nobody_holds_them(folder: Path) -> None:
    source = """
def test_queued(): ask("queue", namespace(empty))
def test_held(): ask("hold", namespace(empty))
def test_held_by_the_run(): ask_family("hold", namespace(empty))
"""
    (text,) = runs(folder, source)
    assert failed(text) == {"queued": LEFT}, text
    assert len(charged(text)) == 1
    assert not {*charged(text)} & {*told(text)}


@pytest.mark.usefixtures("sight")
def test_each_of_two_runs_is_charged_with_its_own(folder: Path) -> None:
    source = """
def test_queued(): ask("queue", namespace())
def test_held_by_the_run(): ask_family("hold", namespace())
def test_lets_go(): namespace()
def test_last(): time.sleep(1)
"""
    for text in runs(folder, source, count=2):
        assert failed(text) == {"queued": LEFT, "held_by_the_run": LEFT}, text


NOBODYS = """
def another():
    mount("another", "/mnt", "tmpfs"); Path("/mnt/old").mkdir()
    pivot_root("/mnt", "/mnt/old"); umount2("/old", MNT_DETACH)
def test_leaves(): ask("queue", namespace(another))
"""


@pytest.mark.usefixtures("sight")
def test_what_tells_of_nobody_is_the_cases_where_nobody_else_runs(folder: Path) -> None:
    conftest = """
from tests.utils.watch import leak_plugin, new_namespaces
leak_plugin.nobody_else_runs = new_namespaces.nobody_else_runs = lambda: True
"""
    (text,) = runs(folder, NOBODYS, conftest=conftest)
    assert failed(text) == {"leaves": LEFT}
    assert "ERROR session" not in text


@pytest.mark.usefixtures("sight")
@pytest.mark.parametrize("alone", [True, False])
def test_what_tells_of_nobody_fails_the_session_where_nobody_else_runs(
    folder: Path, alone: bool
) -> None:
    conftest = f"""
from tests.utils.watch import leak_plugin
leak_plugin.nobody_else_runs = lambda: {alone}
"""
    (text,) = runs(folder, NOBODYS, conftest=conftest)
    reason = "ERROR session - Failed: the cases left namespaces behind"
    assert (reason in text, bool(told(text))) == (alone, not alone), text
    if alone:
        assert re.search(r"^mount namespaces that nobody holds: \d+", text, re.M), text


KILLED = """
@pytest.mark.timeout(0.3)
def test_is_killed(): signal.pause()
"""


@pytest.mark.usefixtures("sight")
def test_the_root_of_a_killed_case_is_nobodys(folder: Path) -> None:
    """As the last one: the watch on its root's mounts keeps the namespace no longer."""
    conftest = """
from tests.utils.watch import leak_plugin
leak_plugin.nobody_else_runs = lambda: True
"""
    (text,) = runs(folder, KILLED, conftest=conftest)
    assert "test_is_killed - Timeout" in text
    assert "left namespaces behind" not in text


# --- an ordinary user -----------------------------------------------------------------------------


def test_an_ordinary_user_answers_for_nothing_of_the_machine(folder: Path) -> None:
    """The machine's namespaces cannot be seen, and its table cannot be changed."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount beside the run")
    user_namespaces()
    source = """
def test_leaves(): ask("queue", namespace())
def test_made_by_another_program(): ask("make")
def test_somebody_mounts(): ask("mount /sys")
@machines_pids
def test_mounts_in_the_root(): enter(os.getppid()); mount("another", "/mnt", "tmpfs")
def test_last(): pass
"""
    (text,) = runs(folder, source, as_user=True)
    reason = "the case changed mounts outside of its own namespaces"
    assert failed(text) == {"mounts_in_the_root": reason}, text
    assert "perhaps another program's" not in text
