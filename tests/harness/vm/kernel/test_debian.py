# SPDX-License-Identifier: GPL-2.0-only
"""Kernels from Debian: which package a specification means, fetched once, found offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.harness.helpers.images import BANNER, bzimage, elf
from vm import paths
from vm.arch import ARCHITECTURES, Processor
from vm.distro import apt, archive
from vm.errors import Exit, Problem
from vm.kernel import debian
from vm.kernel.debian import Spec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("debian", Spec()),
        ("debian:trixie-backports", Spec("trixie-backports")),
        ("debian:trixie-backports=7.0.13", Spec("trixie-backports", version="7.0.13")),
        ("debian:experimental=7.3~rc7", Spec("experimental", version="7.3~rc7")),
        ("debian:sid/user-mode-linux", Spec("sid", "user-mode-linux")),
        ("debian/rt-amd64=7.1", Spec("", "rt-amd64", "7.1")),
    ],
)
def test_a_specification_is_understood(text: str, spec: Spec) -> None:
    assert debian.SCHEME.names(text)
    assert debian.parse(text) == spec


@pytest.mark.parametrize("text", ["debian:", "debian:Sid", "debian:sid=new", "debian:sid/a/b"])
def test_a_bad_specification_is_a_usage_error(text: str) -> None:
    with pytest.raises(Problem, match="write debian") as caught:
        debian.parse(text)
    assert caught.value.status is Exit.USAGE


@pytest.mark.parametrize("text", ["./debian", "/boot/vmlinuz", "debian-kernel", "linux"])
def test_a_path_is_no_specification(text: str) -> None:
    assert not debian.SCHEME.names(text)


def test_versions_sort_by_number() -> None:
    versions = ["6.19.14", "7.2.9", "7.2.12", "7.3~rc7", "7.3", "7.3.1", "7.10"]
    backwards = versions[::-1]
    assert sorted(backwards, key=debian.version_key) == versions


@pytest.mark.parametrize(
    ("wanted", "yes", "no"),
    [("7.0", ["7.0", "7.0.13"], ["7.01", "7.10", "17.0"]), ("7.2.1", ["7.2.1"], ["7.2.12"])],
)
def test_a_version_stands_for_those_that_begin_with_it(
    wanted: str, yes: list[str], no: list[str]
) -> None:
    assert all(debian.matches(version, wanted) for version in yes)
    assert not any(debian.matches(version, wanted) for version in no)


NAMES = [
    "linux-binary-7.2.12+deb13-cloud-amd64",
    "linux-binary-7.2.9+deb13-cloud-amd64",
    "linux-binary-unsigned-7.2.12+deb13-cloud-amd64",
    "linux-binary-7.0.13+deb13-cloud-amd64",
    "linux-binary-7.3.4+deb13-rt-amd64",
    "linux-binary-7.3.4+deb13-cloud-amd64-dbg",
    "linux-binary-6.19.14+deb13-cloud-amd64",
]


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (Spec(), "linux-binary-7.2.12+deb13-cloud-amd64"),
        (Spec(version="7.0"), "linux-binary-7.0.13+deb13-cloud-amd64"),
        (Spec(flavour="rt-amd64"), "linux-binary-7.3.4+deb13-rt-amd64"),
    ],
)
def test_the_newest_package_that_fits_is_chosen(spec: Spec, name: str) -> None:
    found = debian.choose(NAMES, spec)
    assert found is not None
    assert found[0] == name


@pytest.mark.parametrize(
    ("flavour", "arch"),
    [
        *((f"{kind}amd64", "x86") for kind in ("", "cloud-", "rt-")),
        *((f"{kind}arm64", "arm64") for kind in ("", "cloud-", "rt-")),
        ("arm64-16k", "arm64"),
        ("user-mode-linux", "um"),
        ("686", "x86"),
    ],
)
def test_the_flavour_tells_what_a_kernel_is_for(flavour: str, arch: str) -> None:
    source = debian.SCHEME.find(f"debian:trixie-backports/{flavour}")
    assert source.arch is ARCHITECTURES[arch]


def test_no_package_fits_another_version() -> None:
    assert debian.choose(NAMES, Spec(version="7.9")) is None


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with three kernels, and a mirror that does not answer."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels = tmp_path / paths.NAME / "kernels/debian"
    for name in ("7.0.13", "7.2.9", "7.2.12", "6.19.1"):
        image = kernels / f"stable/linux-binary-{name}+deb13-cloud-amd64/boot/vmlinuz-{name}"
        image.parent.mkdir(parents=True)
        image.write_bytes(bzimage())
    (kernels / "sid/user-mode-linux").mkdir(parents=True)
    (kernels / "sid/user-mode-linux/linux.uml").write_bytes(elf(0x60000000, banner=BANNER))

    def unreachable(suite: str, processor: Processor) -> None:
        raise apt.Unreachable("E: Could not connect")

    monkeypatch.setattr(archive, "state", unreachable)
    return kernels


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("debian", "vmlinuz-7.2.12"),
        ("debian:stable=7.0", "vmlinuz-7.0.13"),
        ("debian:stable=7.2.9", "vmlinuz-7.2.9"),
        ("debian:stable=6.19", "vmlinuz-6.19.1"),
        ("debian/user-mode-linux", "linux.uml"),
    ],
)
def test_without_a_mirror_the_cache_serves(offline: Path, text: str, name: str) -> None:
    assert debian.get(debian.parse(text)).path.name == name


def test_without_a_mirror_and_a_kernel_one_line_says_so(offline: Path) -> None:
    with pytest.raises(
        Problem,
        match=r"^cannot fetch a cloud-amd64 kernel 7\.9.*: E: Could not .*\nhint: .*--kernel PATH",
    ):
        debian.get(debian.parse("debian:stable=7.9"))


class Archive:
    """Plays the suite "stable", with these packages for any processor."""

    def __init__(self, *packages: str) -> None:
        self._packages = packages
        self.asked = 0

    def state(self, suite: str, processor: Processor) -> tuple[Archive, str]:
        self.asked += 1
        return self, suite

    def names(self, prefix: str) -> list[str]:
        return [name for name in self._packages if name.startswith(prefix)]

    def package(self, name: str) -> apt.Package:
        return apt.Package(name, "1", 7)

    def unpack(self, wanted: Sequence[apt.Package], folder: Path, what: str) -> None:
        (folder / "usr/lib/modules/7/kernel").mkdir(parents=True)


EXACT = debian.parse("debian:stable=7.2.12")
MODULES = "linux-modules-7.2.12+deb13-cloud-amd64"


def test_modules_come_from_a_package_of_their_own_and_once(
    offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Archive(MODULES)
    monkeypatch.setattr(archive, "state", mirror.state)
    folder = offline / f"stable/{MODULES}/usr/lib/modules/7"
    for _ in range(2):
        kernel = debian.get(EXACT)
        assert (kernel.modules, kernel.home) == (folder, kernel.path.parents[1])
    assert mirror.asked == 1


def test_modules_that_the_archive_has_no_more_are_not_asked_for_again(
    offline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = Archive(f"{MODULES}-dbg")
    monkeypatch.setattr(archive, "state", mirror.state)
    assert [debian.get(EXACT).modules for _ in range(2)] == [None, None]
    assert mirror.asked == 1
    assert capsys.readouterr().err == f"vm: no modules for this kernel: stable has no {MODULES}\n"


def test_a_kernel_whose_modules_cannot_be_fetched_is_there_all_the_same(
    offline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(suite: str, processor: Processor) -> None:
        raise apt.Unreachable("E: Could not connect")

    monkeypatch.setattr(archive, "state", unreachable)
    assert debian.get(EXACT).modules is None
    assert capsys.readouterr().err == "vm: no modules for this kernel: E: Could not connect\n"
    assert not (offline / f"stable/{MODULES}").exists()


@pytest.mark.parametrize(("there", "place"), [("", "debian/stable"), ("stable", "stable")])
def test_a_kernel_is_fetched_into_the_folder_of_its_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: str, place: str
) -> None:
    """Unless an earlier version has fetched it to where there was no such folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    name = "linux-binary-7.2.12+deb13-cloud-amd64"
    kernels = tmp_path / paths.NAME / "kernels"
    if there:
        (kernels / there / name / "boot").mkdir(parents=True)
        (kernels / there / name / "boot/vmlinuz-7.2.12").write_bytes(bzimage())
    fetched = []

    class Mirror(Archive):
        def unpack(self, wanted: Sequence[apt.Package], folder: Path, what: str) -> None:
            fetched.append(what)
            (folder / "boot").mkdir(parents=True)
            (folder / "boot/vmlinuz-7.2.12").write_bytes(bzimage())

    monkeypatch.setattr(archive, "state", Mirror(name).state)
    kernel = debian.get(debian.parse("debian:stable"))
    assert kernel.path == kernels / place / name / "boot/vmlinuz-7.2.12"
    assert len(fetched) == (not there)


def test_older_packages_carry_their_modules(offline: Path) -> None:
    home = offline / "stable/linux-image-6.12.1+deb13-cloud-amd64"
    (home / "usr/lib/modules/6/kernel").mkdir(parents=True)
    (home / "boot").mkdir()
    (home / "boot/vmlinuz-6.12.1").write_bytes(bzimage())
    kernel = debian.get(debian.parse("debian:stable=6.12.1"))
    assert kernel.modules == home / "usr/lib/modules/6"


def test_what_a_suite_has_is_listed_as_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*NAMES, "linux-image-amd64", debian.UML, f"{debian.UML}-doc"]
    others = [f"linux-binary-7.3.4+deb13-{flavour}" for flavour in ("arm64-16k", "cloud-arm64")]
    others.append(debian.UML)  # for a processor that its kernel is not for
    has = {"amd64": Archive(*names), "arm64": Archive(*others)}
    monkeypatch.setattr(archive, "state", lambda suite, processor: (has[processor.debian], suite))
    assert debian.obtainable("stable") == [
        "debian:stable/user-mode-linux",
        "debian:stable/rt-amd64=7.3.4",
        "debian:stable=7.2.12",
        "debian:stable=7.2.9",
        "debian:stable=7.0.13",
        "debian:stable/arm64-16k=7.3.4",
        "debian:stable/cloud-arm64=7.3.4",
    ]


def test_a_mirror_without_the_other_architecture_lists_its_own_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def state(suite: str, processor: Processor) -> tuple[Archive, str]:
        if not processor.native:
            raise Problem("E: no such index\nhint: look")
        return Archive(*NAMES), suite

    monkeypatch.setattr(archive, "state", state)
    assert debian.obtainable("stable")[0] == "debian:stable/rt-amd64=7.3.4"
    assert capsys.readouterr().err == "vm: kernels for arm64 are left out: E: no such index\n"
