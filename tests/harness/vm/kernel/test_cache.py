# SPDX-License-Identifier: GPL-2.0-only
"""The kernels in the cache: listed, held while they are used, and cleared away."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, CONFIGS, a_source, bzimage, elf
from vm import paths
from vm.arch import X86_64
from vm.commands import main
from vm.errors import Exit, Problem
from vm.kernel import cache, mirror, source, tree
from vm.kernel.image import Kernel, Kind
from vm.kernel.scheme import Entry, Scheme, Source

DAY = 86400.0


def put(folder: Path, file: str, data: bytes, days: float) -> Path:
    """A folder with one file, last used some days ago."""
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(data)
    then = time.time() - days * DAY
    os.utime(folder, (then, then))
    return folder


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with a kernel in two packages, one in one, and one that was built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KBUILD_OUTPUT", raising=False)
    kernels = tmp_path / paths.NAME / "kernels/debian"
    suite = kernels / "stable"
    put(suite / "linux-binary-7.2.12+deb13-amd64", "boot/vmlinuz-7.2.12", bzimage(), 40)
    put(suite / "linux-modules-7.2.12+deb13-amd64", "usr/lib/modules/7/a.ko", bytes(9000), 50)
    put(kernels / "sid/user-mode-linux", "linux.uml", elf(0x60000000, banner=BANNER), 10)
    source = a_source(tmp_path / "linux")
    output = tree.cached(source, "x86")
    (output / "arch/x86/boot").mkdir(parents=True)
    (output / "arch/x86/boot/bzImage").write_bytes(bzimage())
    (output / "source").symlink_to(source)
    put(output, ".config", CONFIGS["x86"].encode(), 0)
    return tmp_path / paths.NAME


def remaining(store: Path) -> set[str]:
    places = ("kernels/debian/*/*", "builds/*/*")
    return {path.name for place in places for path in store.glob(place)}


ALL = {
    "linux-binary-7.2.12+deb13-amd64",
    "linux-modules-7.2.12+deb13-amd64",
    "user-mode-linux",
    "x86",
}


def test_each_kernel_is_listed_as_it_is_asked_for(store: Path, tmp_path: Path) -> None:
    lines = list(cache.listing())
    assert [line.partition("  ")[0] for line in lines] == [
        "debian:sid/user-mode-linux",
        "debian:stable/amd64=7.2.12",
        str(tree.cached(tmp_path / "linux", "x86")),
    ]
    assert "Linux 7.2.12, in the cache, 0.0 MB" in lines[1]
    assert f"Linux 7.9.1-test, built from {tmp_path}/linux, in the cache" in lines[2]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_second_tree_is_listed_with_the_source_that_its_links_lead_to(
    store: Path, tmp_path: Path
) -> None:
    (tmp_path / "linux/.config").write_text(CONFIGS["x86"])
    second = tree.second(tree.find(tmp_path / "linux", "x86"), False)
    second.objects.mkdir()
    mirror.refresh(tmp_path / "linux", second.objects)
    (second.objects / ".config").write_text(CONFIGS["x86"])
    put(second.objects, "arch/x86/boot/bzImage", bzimage(), 0)
    (line,) = (line for line in cache.listing() if line.startswith(str(second.objects)))
    assert f"built from {tmp_path}/linux, in the cache" in line


def test_a_build_that_was_broken_off_is_listed_too(store: Path, tmp_path: Path) -> None:
    (tree.cached(tmp_path / "linux", "x86") / ".config").unlink()
    assert "an incomplete build" in list(cache.listing())[-1]


def test_packaged_sources_and_their_copies_are_listed_and_removed(store: Path) -> None:
    places = [paths.cache() / "sources/suite/7.3.4-1", paths.cache() / "faults/faults-7.3.4-1"]
    for place in places:
        place.mkdir(parents=True)
    lines = list(cache.listing())
    assert [line.partition("  ")[0] for line in lines[-2:]] == [str(place) for place in places]
    list(cache.prune(0))
    assert not any(place.exists() for place in places)


def test_a_size_counts_what_lies_on_the_disk_once(store: Path) -> None:
    entry = next(entry for entry in cache.entries() if "amd64" in entry.name)
    before = entry.size
    assert before >= 9000
    os.link(entry.folders[1] / "usr/lib/modules/7/a.ko", entry.folders[0] / "again")
    assert entry.size == before


@pytest.mark.parametrize(
    ("days", "left"),
    [(60.0, ALL), (30.0, {"user-mode-linux", "x86"}), (5.0, {"x86"}), (0.0, set())],
)
def test_the_unused_ones_are_removed(store: Path, days: float, left: set[str]) -> None:
    lines = list(cache.prune(days))
    assert remaining(store) == left
    assert lines[-1].startswith(f"{len(lines) - 1} removed, ")
    assert all(line.startswith("removed ") for line in lines[:-1])


def test_nothing_of_a_removed_kernel_is_left(store: Path) -> None:
    list(cache.prune(0))
    assert [path for path in store.rglob("*") if path.is_file()] == [store / "kernels.lock"]
    assert list((store / "kernels").iterdir()) == []


def test_what_earlier_versions_left_is_found_and_removed_as_well(store: Path) -> None:
    """They had no folder for the scheme: kernels/SUITE/PACKAGE."""
    kernels = store / "kernels"
    for suite in (kernels / "debian").iterdir():
        suite.rename(kernels / suite.name)
    (kernels / "debian").rmdir()
    names = [entry.name for entry in cache.entries()]
    assert names[:2] == ["debian:sid/user-mode-linux", "debian:stable/amd64=7.2.12"]
    found = source.find("debian:stable/amd64=7.2.12", X86_64, None)
    with ExitStack() as stack:
        kernel = found.obtain(stack)
        assert kernel.home == kernels / "stable/linux-binary-7.2.12+deb13-amd64"
        list(cache.prune(0))
        assert list(kernels.glob("*/*")) == [
            kernel.home,
            kernel.home.with_name("linux-modules-7.2.12+deb13-amd64"),
        ]
    list(cache.prune(0))
    assert list(kernels.iterdir()) == []


def test_a_kernel_is_held_from_when_it_is_obtained(store: Path) -> None:
    with ExitStack() as stack:
        kernel = source.find("debian:stable/amd64=7.2.12", X86_64, None).obtain(stack)
        assert "kept debian:stable/amd64=7.2.12: in use" in list(cache.prune(0))
        assert kernel.path.exists()
    assert any(line.startswith("removed debian:stable") for line in cache.prune(0))


def test_a_kernel_that_is_removed_while_it_is_obtained_is_obtained_again(store: Path) -> None:
    home = store / "kernels/debian/some"
    asked = []

    def make() -> Kernel:
        asked.append(home)
        if len(asked) > 1:
            home.mkdir()
        return Kernel(home / "linux", Kind.UML, "7.9", "some", home=home)

    with ExitStack() as stack:
        assert Source(X86_64, "some", make).obtain(stack).home == home
    assert len(asked) == 2


def test_a_tree_that_this_run_uses_is_not_built_in(store: Path) -> None:
    """To wait until nobody uses it would be to wait for itself."""
    home = store / "kernels/debian/sid/user-mode-linux"
    with paths.using(home), pytest.raises(Problem, match="hint: name a build tree once") as caught:
        paths.changing(home).__enter__()
    assert caught.value.status is Exit.USAGE
    with paths.changing(home):
        pass


def test_a_scheme_that_is_registered_is_known_everywhere(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """--kernel, the list of the cache, and what a place has."""
    linux = Source(X86_64, "fedora:41 is x86", lambda: Kernel(store, Kind.BZIMAGE, "7.9", "f"))
    cached = Entry("fedora:41", "Linux 7.9", (store / "kernels/debian/sid/user-mode-linux",))
    scheme = Scheme(
        *("fedora", "fedora:RELEASE", lambda _: linux, lambda _: linux),
        *(lambda: [cached], lambda place: [f"fedora:{place}=7.9"]),
    )
    monkeypatch.setitem(source.SCHEMES, "fedora", scheme)
    assert source.find("fedora:41", X86_64, None) is linux
    assert main.main(["kernels", "fedora:41"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("fedora:41  Linux 7.9, in the cache") for line in lines)
    assert lines[-1] == "fedora:41=7.9"
    assert main.main(["kernels", "nosuch:41"]) == Exit.USAGE
    assert "hint: there is debian, fedora" in capsys.readouterr().err


def test_a_kernel_in_use_is_kept(store: Path) -> None:
    home = store / "kernels/debian/sid/user-mode-linux"
    with paths.using(home):
        lines = list(cache.prune(0))
    assert "kept debian:sid/user-mode-linux: in use" in lines
    assert remaining(store) == {"user-mode-linux"}


def test_a_use_is_remembered(store: Path) -> None:
    with paths.using(store / "kernels/debian/stable/linux-binary-7.2.12+deb13-amd64"):
        pass
    list(cache.prune(30))
    assert remaining(store) == ALL


def test_several_may_use_a_kernel_and_one_alone_may_change_it(store: Path) -> None:
    home = store / "kernels/debian/sid/user-mode-linux"
    with paths.using(home), paths.using(home), paths.idle(home) as idle:
        assert not idle
    with paths.idle(home) as idle:
        assert idle
    with paths.changing(home), paths.idle(home) as idle:
        assert not idle


WAIT = """
import sys
from pathlib import Path
from vm import paths
with paths.changing(Path(sys.argv[1])):
    print("alone")
"""


def test_who_must_wait_for_a_kernel_says_so(store: Path) -> None:
    home = store / "kernels/debian/sid/user-mode-linux"
    with paths.using(home):
        process = subprocess.Popen(
            [sys.executable, "-c", WAIT, str(home)],
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
    rest, _ = process.communicate(timeout=30)
    assert line == f"waiting for another run that uses {home} ...\n"
    assert rest == "alone\n"


@pytest.mark.parametrize(
    ("words", "status"),
    [((), Exit.OK), (("0",), Exit.OK), (("-1",), Exit.USAGE), (("soon",), Exit.USAGE)],
)
def test_the_verb_takes_a_number_of_days(
    store: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: Exit
) -> None:
    assert main.main(["kernels", "--prune", *words]) == status
    removed = {(): "1 removed", ("0",): "3 removed"}.get(words, "")
    assert removed in capsys.readouterr().out
