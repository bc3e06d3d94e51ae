# SPDX-License-Identifier: GPL-2.0-only
"""The cases' own root: it has what they need, nothing of the host's mounts, and no way out."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness.helpers.callers import user_namespaces
from tests.harness.helpers.strangers import run_pytest
from tests.harness.helpers.suite import HEADER, PLUGIN, ROOT
from tests.utils.isolation import sandbox
from tests.utils.uapi.constants import MS_BIND, MS_REC, MS_SHARED
from tests.utils.uapi.syscalls import mount

CASES = f"""{HEADER}
from pathlib import Path
from tests.harness.helpers.strangers import ask
from tests.utils.uapi.syscalls import mount
STRANGER = os.environ["STRANGER"]
def table(): return [line.split() for line in open("/proc/self/mountinfo")]
def points(): return [line[4] for line in table()]
"""
CALLERS = pytest.mark.parametrize(
    "as_user",
    [
        pytest.param(False, id="root"),
        pytest.param(
            True,
            id="user",
            marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user"),
        ),
    ],
)


@pytest.fixture(autouse=True)
def _namespaces() -> None:
    user_namespaces()
    if not sandbox.facts().own_root:
        pytest.skip(sandbox.facts().reason)


def run_cases_in(
    folder: Path,
    source: str,
    as_user: bool,
    *arguments: str,
    prepare: Callable[[], object] | None = None,
    cwd: Path | None = None,
    **environment: str,
) -> str:
    """Return what a run of the cases in *source* prints, on a machine that *prepare* has made."""

    def arrange() -> None:
        if prepare is not None:
            prepare()
        where = cwd or folder
        (where / "test_it.py").write_text(CASES + source)

    (text,) = run_pytest(
        folder,
        *(*PLUGIN, *arguments, "test_it.py"),
        as_user=as_user,
        prepare=arrange,
        cwd=cwd,
        environment={"STRANGER": str(folder / "stranger"), **environment},
    )
    return text


def on(path: Path) -> Path:
    """Mount a tmpfs that everybody may write to on *path*, which is made."""
    path.mkdir(exist_ok=True)
    mount("host", path, "tmpfs", 0, "mode=777")
    return path


# --- what is not there ----------------------------------------------------------------------------


@CALLERS
def test_nothing_of_the_host_propagates_in_or_out(folder: Path, as_user: bool) -> None:
    """Though all mounts of the host are shared, and the case can reach each place."""

    def share() -> None:
        on(folder / "shared")
        mount(None, "/", None, MS_REC | MS_SHARED)

    text = run_cases_in(
        folder,
        f"""
def test_in(scratch):
    for place in ({str(folder / "shared")!r}, "/usr/share", "/etc"):
        before = points()
        ask(STRANGER, "mount " + place)
        assert points() == before
def test_out(scratch):
    mount("case-0", {str(folder)!r}, "tmpfs"); mount("case-0", "/etc", "tmpfs")
    (scratch / "below").mkdir(); mount("case-0", scratch / "below", "tmpfs")
    os.chdir("/")
    assert sum(" case-0 " in line for line in open("/proc/self/mountinfo")) == 3
def test_out_of_it(): assert ask(STRANGER, "cases") == "0"
""",
        as_user,
        "-ptests.utils.watch.leak_plugin",
        prepare=share,
    )
    assert " 3 passed in " in text, text


@CALLERS
def test_the_table_has_what_is_needed_alone(folder: Path, as_user: bool) -> None:
    def fill() -> None:
        on(Path("/srv"))
        for number in range(100):
            on(Path(f"/srv/other{number}"))

    text = run_cases_in(
        folder,
        """
from tests.utils.isolation import sandbox
def test_table(scratch):
    assert "tmpfs" in table()[0]
    needed = {os.path.realpath(path) for path in (*sandbox._needed(), *sandbox._SYSTEM, "/dev")}
    below = [path for path in points() if path not in needed | {"/", "/proc", str(scratch)}]
    # What lies on a folder comes along where the caller may not look below.
    if os.environ["CALLER"] == "root": assert below == []
    assert not any("other" in path for path in below)
    assert points()[0] == "/" and points()[-1] == str(scratch)
    known = {*needed, *sandbox._SYSTEM, "/proc", str(scratch)}
    assert set(os.listdir("/")) <= {path.split("/")[1] for path in known}
@pytest.mark.isolated(machine_root=True)
def test_machines_table(): assert sum("/other" in path for path in points()) == 100
""",
        as_user,
        prepare=fill,
        CALLER="user" if as_user or os.geteuid() else "root",
    )
    assert " 2 passed in " in text, text


@CALLERS
def test_folders_of_the_system_are_read_only(folder: Path, as_user: bool) -> None:
    """What the host has mounted on them, too."""

    def nest() -> None:
        on(Path("/usr/share"))
        on(Path("/usr/share/project"))

    text = run_cases_in(
        folder,
        """
@pytest.mark.parametrize("name", ["/usr", "/etc", "/usr/share/project"])
def test_read_only(name):
    assert os.statvfs(name).f_flag & os.ST_RDONLY
def test_there(): assert "test_it.py" in os.listdir("/usr/share/project")
def test_own(tmp_path, scratch): (tmp_path / "file").touch(); (scratch / "file").touch()
""",
        as_user,
        prepare=nest,
        cwd=Path("/usr/share/project"),
    )
    assert " 5 passed in " in text, text


# --- what is there --------------------------------------------------------------------------------


@CALLERS
def test_what_python_reads_is_reachable_whatever_lies_on_the_way(
    folder: Path, as_user: bool
) -> None:
    """Mounts on mounts, binds of the same file system, relative and absolute links."""

    def lay() -> None:
        for number, path in enumerate(("nested", "nested/inner", "nested/inner/deep")):
            on(folder / path)
            (folder / path / "modules").mkdir()
            (folder / path / f"modules/module{number}.py").write_text(f"value = {number}")
        (folder / "source/modules").mkdir(parents=True)
        (folder / "source/modules/module3.py").write_text("value = 3")
        (folder / "bound").mkdir()
        mount(folder / "source", folder / "bound", None, MS_BIND)
        (folder / "relative").symlink_to("nested/../nested/inner")
        (folder / "nested/inner/absolute").symlink_to(folder / "bound")
        (folder / "cwd").symlink_to("relative/deep")

    modules = ("nested/modules", "relative/modules", "cwd/modules", "relative/absolute/modules")
    text = run_cases_in(
        folder,
        """
@pytest.mark.parametrize("number", range(4))
def test_import(number):
    assert __import__(f"module{number}").value == number
def test_working_directory():
    assert "test_it.py" in os.listdir(".") and Path("test_it.py").exists()
    assert Path(__file__).exists()
""",
        as_user,
        prepare=lay,
        cwd=folder / "cwd",
        PYTHONPATH=":".join([str(ROOT), *(str(folder / name) for name in modules)]),
    )
    assert " 5 passed in " in text, text


@CALLERS
def test_nothing_is_made_below_the_hosts_mounts(folder: Path, as_user: bool) -> None:
    """To bind a folder takes a mount point: not one on a file system of the host."""

    def lay() -> None:
        (folder / "nested").mkdir()
        mount(folder / "nested", folder / "below", None, MS_BIND)
        on(folder / "nested")
        (folder / "nested/modules").mkdir()

    (folder / "below").mkdir()
    text = run_cases_in(
        folder,
        f"""
def test_below(): assert os.listdir({str(folder / "below")!r}) == []
def test_there(): assert os.listdir({str(folder / "nested")!r}) == ["modules"]
""",
        as_user,
        prepare=lay,
        PYTHONPATH=f"{ROOT}:{folder / 'nested/modules'}",
    )
    assert " 2 passed in " in text, text
    assert os.listdir(folder / "nested") == []


@CALLERS
def test_folders_on_mounts_of_their_own(folder: Path, as_user: bool) -> None:
    """The working directory, that for temporary files, one where the tmpfs of a case would go."""

    def lay() -> None:
        for name in ("cwd", "tmp"):
            on(folder / name)
        on(Path("/mnt"))
        (Path("/mnt") / "modules").mkdir()
        (Path("/mnt") / "modules/module.py").write_text("value = 1")

    text = run_cases_in(
        folder,
        """
import tempfile
def test_paths(tmp_path, scratch):
    assert "test_it.py" in os.listdir(".")
    assert tmp_path.is_relative_to(tempfile.gettempdir()) and tempfile.gettempdir() in points()
    (tmp_path / "file").touch()
    assert os.listdir(scratch) == [] and points()[-1] == str(scratch)
    import module
""",
        as_user,
        prepare=lay,
        cwd=folder / "cwd",
        TMPDIR=str(folder / "tmp"),
        PYTHONPATH=f"{ROOT}:/mnt/modules",
    )
    assert " 1 passed in " in text, text
    assert "isolation: " not in text


# --- where it is not to be had --------------------------------------------------------------------


@CALLERS
@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "n2"])
def test_without_pivot_root_cases_get_the_machines_root(
    folder: Path, as_user: bool, workers: tuple[str, ...]
) -> None:
    text = run_cases_in(
        folder,
        """
def test_machines_root(scratch):
    assert os.listdir(scratch) == [] and points()[-1] == str(scratch)
    assert os.environ["OTHER"] in points()
def test_another(): pass
""",
        as_user,
        "-ptests.harness.helpers.filters",
        *workers,
        prepare=lambda: on(folder / "other"),
        OTHER=str(folder / "other"),
        OPEN_TREE_NS_FILTER="EPERM pivot_root",
    )
    assert " 2 passed in " in text, text
    told = re.findall(
        r"^isolation: No root of the suite's own: .*pivot_root.*not permitted.*$", text, re.M
    )
    assert len(told) == 1, text


@CALLERS
def test_a_path_that_the_caller_may_not_look_at_is_left_out(folder: Path, as_user: bool) -> None:
    (folder / "closed/modules").mkdir(parents=True)
    (folder / "closed").chmod(0o700)
    path = f"{ROOT}:{folder / 'closed/modules'}"
    text = run_cases_in(folder, "def test(scratch): pass", as_user, PYTHONPATH=path)
    assert " 1 passed in " in text, text
    assert "isolation: " not in text
